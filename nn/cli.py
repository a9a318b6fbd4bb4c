"""The `symgraph` command: its verbs, their options, and what they print.

Results go to standard output, everything else to standard error.
Exit codes: 0 all is well; 1 something failed or a check did not hold; 2 the command was misused.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import symgraph
from symgraph.errors import SymgraphError

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = _parser()
    try:
        arguments = _parsed(parser, list(sys.argv[1:] if argv is None else argv))
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as leaving:  # argparse: --help, --version, or misuse
        return int(leaving.code or 0)
    except BrokenPipeError:  # the reader went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("symgraph: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (SymgraphError, ModuleNotFoundError, OSError) as error:
        print(f"symgraph: {error}", file=sys.stderr)
        return FAILED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"{self.prog}: {message}\n{self.format_usage()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "symgraph",
        description="A symbolic array-expression compiler.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"symgraph {symgraph.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="command", parser_class=_Parser)
    demo = _verb(verbs, "demo", _demo, "train a network on handwritten digits and check the result")
    demo.add_argument("--out", default="symgraph-demo", help="folder for the picture and weights")
    demo.add_argument("--quick", action="store_true", help="one short training instead of three")
    train = _verb(verbs, "train", _train, "train a network on MNIST, or on scikit-learn's digits")
    train.add_argument("model", choices=("lenet",), help="the network: lenet is LeNet-5")
    train.add_argument("--epochs", type=_count, help="passes over the training images")
    train.add_argument("--batch", type=_count, help="images in a minibatch")
    train.add_argument("--seed", type=_seed, help="of the initial values and the order (0)")
    train.add_argument("--out", default="symgraph-train", help="folder for what is written")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    _verb(verbs, "info", _info, "versions, this machine, targets, cache")
    parser.set_defaults(verbs=verbs.choices)
    return parser


def _verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=what, description=what, allow_abbrev=False)
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    verb.set_defaults(run=run)
    return verb


def _count(text: str) -> int:
    return _at_least(1, text)


def _seed(text: str) -> int:
    return _at_least(0, text)


def _at_least(lowest: int, text: str) -> int:
    if text.isdecimal() and lowest <= int(text) < 2**63:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from {lowest}, got {text!r}")


def _parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """The arguments.  Exits with a suggestion for a word that is almost right."""
    verbs = parser.get_default("verbs")
    verb = next((w for w in words if not w.startswith("-")), None)
    if verb is not None and verb not in verbs:
        parser.error(f"unknown command {verb!r}" + _suggestion(verb, verbs))
    arguments, extra = parser.parse_known_args(words)
    if extra:
        used = verbs[arguments.verb] if arguments.verb else parser
        known = [option for action in used._actions for option in action.option_strings]
        parser.error(f"unknown argument {extra[0]!r}" + _suggestion(extra[0], known))
    if arguments.verb is None:
        parser.error(f"expected a command: {', '.join(verbs)}")
    return arguments


def _suggestion(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word.partition("=")[0], list(known), 1, 0.5)
    return f": did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


# ------------------------------------------------------------------------------------------------
# verbs


def _demo(arguments: argparse.Namespace) -> int:
    from .demo import run

    return OK if run(arguments.out, arguments.quick, arguments.json) else FAILED


def _train(arguments: argparse.Namespace) -> int:
    from .recipes import run

    names = ("epochs", "batch", "seed", "resume")
    chosen = {name: getattr(arguments, name) for name in names}
    run(arguments.model, arguments.out, as_json=arguments.json, **chosen)
    return OK


def _info(arguments: argparse.Namespace) -> int:
    from .info import gather, to_text

    facts = gather()
    print(json.dumps(facts, indent=2) if arguments.json else to_text(facts))
    return OK


if __name__ == "__main__":
    sys.exit(main())
