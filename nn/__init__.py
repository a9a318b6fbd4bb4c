"""Networks: initializers, layers, losses, updates, training, data, and the console command.

    model = nn.mlp([64, 128, 10], rng=0)
    cost = nn.cross_entropy(model(x), t)
    trainer = nn.Trainer([x, t], cost, nn.Adam(1e-3).minimize(cost, model.parameters()))

Everything here is plain symbolic graph: a layer's call builds an expression, an update rule gives
pairs for `function(updates=...)`.
"""

if __name__ != "symgraph.nn":
    raise ImportError(f"import symgraph.nn, not {__name__}: the folder has no bare name")

from . import checkpoint, data, init, losses, metrics, plot, schedules, updates
from .data import digits, minibatches, mnist
from .history import History, early_stop
from .layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvNorm2d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Dense,
    Depthwise2d,
    Dropout,
    Embedding,
    Flatten,
    GlobalPool,
    Layer,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    PReLU,
    Recurrent,
    Sequential,
)
from .losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    l1,
    l2,
    mae,
    mse,
    multiclass_hinge,
)
from .metrics import (
    accuracy,
    binary_accuracy,
    confusion,
    error_rate,
    f1,
    precision,
    recall,
    top_k_accuracy,
)
from .models import lenet5, mlp, mobilenet_v2, resnet18, resnet34, resnet50, vgg16
from .train import Trainer
from .updates import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    RMSProp,
    Update,
    clip_by_norm,
    clip_by_value,
    global_norm,
)
