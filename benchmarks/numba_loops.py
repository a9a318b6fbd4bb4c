"""The rows of benchmarks.loops as a user of numba writes them: plain fused loops, fast math.

Importing this module needs numba; each loop is compiled when it is first called.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from benchmarks.dialects import EPSILON

jit: Any = numba.njit(fastmath=True)
ONE, HALF = np.float32(1), np.float32(0.5)
ROOT_HALF = np.float32(math.sqrt(0.5))
SMALL = np.float32(EPSILON)

# --- elementwise ---


@jit
def add(x, y):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = x[i] + y[i]
    return out


@jit
def multiply_add(a, b, c):
    out = np.empty_like(a)
    for i in range(a.size):
        out[i] = a[i] * b[i] + c[i]
    return out


@jit
def gate(a, x, b, c):
    out = np.empty_like(a)
    for i in range(a.size):
        out[i] = math.tanh(a[i] * x[i] + b[i]) * (ONE / (ONE + math.exp(-c[i])))
    return out


@jit
def gelu(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = HALF * x[i] * (ONE + math.erf(x[i] * ROOT_HALF))
    return out


@jit
def log1p_exp(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = math.log(ONE + math.exp(x[i]))
    return out


# --- rows ---


@jit
def softmax(x):
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        total = np.float32(0)
        for j in range(x.shape[1]):
            e = math.exp(x[i, j] - top)
            out[i, j] = e
            total += e
        scale = ONE / total
        for j in range(x.shape[1]):
            out[i, j] *= scale
    return out


@jit
def layer_norm(x, scale, shift):
    out = np.empty_like(x)
    count = np.float32(x.shape[1])
    for i in range(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        mean = total / count
        squares = np.float32(0)
        for j in range(x.shape[1]):
            d = x[i, j] - mean
            squares += d * d
        factor = ONE / np.sqrt(squares / count + SMALL)
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * factor * scale[j] + shift[j]
    return out


@jit
def cross_entropy(x, labels):
    out = np.empty_like(x)
    rows = np.float32(x.shape[0])
    loss = 0.0
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(x.shape[1]):
            top = max(top, x[i, j])
        total = np.float32(0)
        for j in range(x.shape[1]):
            e = math.exp(x[i, j] - top)
            out[i, j] = e
            total += e
        scale = ONE / (total * rows)
        for j in range(x.shape[1]):
            out[i, j] *= scale
        out[i, labels[i]] -= ONE / rows
        loss += top + math.log(total) - x[i, labels[i]]
    return np.float32(loss / x.shape[0]), out


# --- reductions ---


@jit
def sum_0(x):
    out = np.zeros(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j] += x[i, j]
    return out


@jit
def sum_1(x):
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        out[i] = total
    return out


@jit
def sum_all(x):
    total = np.float32(0)
    for value in x.flat:
        total += value
    return total


@jit
def mean_0(x):
    return sum_0(x) / np.float32(x.shape[0])


@jit
def mean_1(x):
    return sum_1(x) / np.float32(x.shape[1])


@jit
def mean_all(x):
    return np.float32(np.sum(sum_1(x)) / np.float32(x.size))


@jit
def max_0(x):
    out = x[0].copy()
    for i in range(1, x.shape[0]):
        for j in range(x.shape[1]):
            out[j] = max(out[j], x[i, j])
    return out


@jit
def max_1(x):
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(1, x.shape[1]):
            top = max(top, x[i, j])
        out[i] = top
    return out


@jit
def max_all(x):
    flat = x.ravel()
    top = flat[0]
    for i in range(flat.size):
        top = max(top, flat[i])
    return top


@jit
def var_0(x):
    mean = mean_0(x)
    out = np.zeros(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            d = x[i, j] - mean[j]
            out[j] += d * d
    return out / np.float32(x.shape[0])


@jit
def var_1(x):
    out = np.empty(x.shape[0], x.dtype)
    count = np.float32(x.shape[1])
    for i in range(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        mean = total / count
        squares = np.float32(0)
        for j in range(x.shape[1]):
            d = x[i, j] - mean
            squares += d * d
        out[i] = squares / count
    return out


@jit
def var_all(x):
    mean = mean_all(x)
    total = 0.0
    for i in range(x.shape[0]):
        squares = np.float32(0)
        for j in range(x.shape[1]):
            d = x[i, j] - mean
            squares += d * d
        total += float(squares)
    return np.float32(total / x.size)


@jit
def argmax_0(x):
    top = x[0].copy()
    out = np.zeros(x.shape[1], np.int64)
    for i in range(1, x.shape[0]):
        for j in range(x.shape[1]):
            if x[i, j] > top[j]:
                top[j] = x[i, j]
                out[j] = i
    return out


@jit
def argmax_1(x):
    out = np.zeros(x.shape[0], np.int64)
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(1, x.shape[1]):
            if x[i, j] > top:
                top = x[i, j]
                out[i] = j
    return out


@jit
def argmax_all(x):
    flat = x.ravel()
    top, at = flat[0], 0
    for i in range(flat.size):
        if flat[i] > top:
            top, at = flat[i], i
    return at


# --- movement ---


@jit
def transposed(x):
    out = np.empty((x.shape[1], x.shape[0]), x.dtype)
    for i in range(x.shape[1]):
        for j in range(x.shape[0]):
            out[i, j] = x[j, i]
    return out


@jit
def concatenate_relu(a, b, c, d):
    m = a.shape[1]
    out = np.empty((a.shape[0], 4 * m), a.dtype)
    zero = np.float32(0)
    for i in range(a.shape[0]):
        for j in range(m):
            out[i, j] = max(a[i, j], zero)
        for j in range(m):
            out[i, m + j] = max(b[i, j], zero)
        for j in range(m):
            out[i, 2 * m + j] = max(c[i, j], zero)
        for j in range(m):
            out[i, 3 * m + j] = max(d[i, j], zero)
    return out


@jit
def embedding(table, words, weights):
    rows = np.empty_like(weights)
    gradient = np.zeros_like(table)
    for i in range(words.size):
        for j in range(table.shape[1]):
            rows[i, j] = table[words[i], j]
            gradient[words[i], j] += weights[i, j]
    return rows, gradient


# --- random ---


@jit
def normal(n):
    out = np.empty(n, np.float32)
    for i in range(n):
        out[i] = np.random.standard_normal()
    return out


@jit
def uniform(n):
    out = np.empty(n, np.float32)
    for i in range(n):
        out[i] = np.random.random()
    return out
