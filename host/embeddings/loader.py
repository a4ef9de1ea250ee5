"""From a model folder to an embedding model or a reranker that is ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn
from mlxbridge.host.embeddings.bert import Bert
from mlxbridge.host.embeddings.classifier import BertClassifier, ModernBertClassifier, RobertaClassifier
from mlxbridge.host.embeddings.decoder import gemma3_decoder, qwen3_decoder
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.facts import facts
from mlxbridge.host.embeddings.folder import MODULES, ModelFiles, read_files
from mlxbridge.host.embeddings.modernbert import ModernBert
from mlxbridge.host.embeddings.pooling import Pooling, as_pooling
from mlxbridge.host.embeddings.projection import Projection, load_projection
from mlxbridge.host.embeddings.request import Activation
from mlxbridge.host.embeddings.reranker import Reranker
from mlxbridge.host.embeddings.tokenizer import TextTokenizer
from mlxbridge.host.embeddings.weights import fill, read_weights, widened, within
from mlxbridge.host.engine.checkpoint import missing_parts


@dataclass(frozen=True, slots=True)
class _Family:
    """Models of one ``model_type``.

    Attributes:
        build: the backbone, by ``config.json``; of a ``Decoder``, the weights are its body's.
        prefix: what names of weights begin with in a checkpoint that has a head, too.
        classify: the same with a reranker's head, if there is one.
        needs_range: whether activations leave float16's range, as Google says of Gemma 3's.
    """

    build: Callable[[dict[str, Any]], Any]
    prefix: str
    classify: Callable[[dict[str, Any]], Any] | None = None
    needs_range: bool = False


_ROBERTA = _Family(Bert, "roberta.", RobertaClassifier)
_FAMILIES = {
    "bert": _Family(Bert, "bert.", BertClassifier),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "modernbert": _Family(ModernBert, "model.", ModernBertClassifier),
    "qwen3": _Family(qwen3_decoder, "model."),
    "gemma3_text": _Family(gemma3_decoder, "model.", needs_range=True),
}


def load_encoder(folder: Path, name: str, *, pooling: str | None = None) -> Encoder:
    """Load an embedding model; no code from its folder is ever run.

    Args:
        folder: as sentence-transformers has it, with safetensors and ``tokenizer.json``; weights may be quantized.
        name: what users call it.
        pooling: for a folder without ``modules.json``: "mean", "cls" or "lasttoken".

    Raises:
        ModelLoadFailed: files are missing, damaged, or ask for what is not known here.
    """
    with _told(folder, name):
        files = read_files(folder)
        chosen = _pooling(files, pooling)
        family = _family(files)
        backbone = family.build(files.config)
        weights = within(read_weights(files.folder), family.prefix)
        # A decoder's names are those of mlx_lm's model in it.
        part: nn.Module = getattr(backbone, "body", backbone)
        fill(part, widened(weights) if family.needs_range else weights, files.config)
        projections = [load_projection(path) for path in files.projections]
        _check_sizes(backbone.hidden_size, projections)
        tokenizer = _tokenizer(files, backbone, name)
        told = facts(files.config, [part, *projections])
        return Encoder(name, backbone, tokenizer, files, chosen, projections, told)


def load_reranker(folder: Path, name: str) -> Reranker:
    """Load a cross-encoder with one label; no code from its folder is ever run.

    Args:
        folder: holds ``config.json``, safetensors and ``tokenizer.json``; weights may be quantized.
        name: what users call it.

    Raises:
        ModelLoadFailed: files are missing, damaged, or ask for what is not known here.
    """
    with _told(folder, name):
        files = read_files(folder)
        family = _family(files)
        if family.classify is None:
            raise ModelLoadFailed(f"a {files.config['model_type']} is no reranker that is known here")
        if (num_labels := _num_labels(files.config)) != 1:
            raise ModelLoadFailed(f"it has {num_labels} labels, and a reranker has one")
        classifier = family.classify(files.config)
        fill(classifier, read_weights(files.folder), files.config, prefix=family.prefix)
        tokenizer = _tokenizer(files, classifier.encoder, name)
        return Reranker(name, classifier, tokenizer, _activation(files), facts(files.config, [classifier]))


@contextmanager
def _told(folder: Path, name: str) -> Iterator[None]:
    """Say of every error what was being loaded."""
    try:
        yield
    except ModelLoadFailed as exc:
        raise ModelLoadFailed(f"cannot load {name} from {folder}: {exc.message}") from exc
    except KeyError as exc:
        raise ModelLoadFailed(f"cannot load {name} from {folder}: config.json lacks {exc}") from exc
    except Exception as exc:  # what odd values in a config lead to
        raise ModelLoadFailed(f"cannot load {name} from {folder}: {type(exc).__name__}: {exc}") from exc


def _family(files: ModelFiles) -> _Family:
    if missing := missing_parts(files.folder):
        raise ModelLoadFailed(f"it lacks {', '.join(missing)}")
    model_type = files.config.get("model_type")
    if model_type not in _FAMILIES:
        raise ModelLoadFailed(f"its model_type {model_type!r} is none of {', '.join(_FAMILIES)}")
    return _FAMILIES[model_type]


def _pooling(files: ModelFiles, pooling: str | None) -> Pooling:
    if files.pooling is not None:
        if pooling not in (None, files.pooling):
            raise ModelLoadFailed(f"pooling is {pooling!r}, but its {MODULES} says {files.pooling!r}")
        return files.pooling
    if pooling is None:
        raise ModelLoadFailed(
            f"nothing says how it pools: take the files of sentence-transformers ({MODULES} and its folders) too, "
            "or give pooling"
        )
    return as_pooling(pooling)


def _check_sizes(size: int, projections: list[Projection]) -> None:
    for projection in projections:
        if projection.num_in != size:
            raise ModelLoadFailed(f"a Dense layer takes {projection.num_in} numbers, but gets {size}")
        size = projection.num_out


def _tokenizer(files: ModelFiles, backbone: Any, name: str) -> TextTokenizer:
    most = int(backbone.max_tokens)
    max_tokens = most if files.max_tokens is None else min(files.max_tokens, most)
    return TextTokenizer(
        files.folder,
        name=name,
        max_tokens=max_tokens,
        vocabulary_size=backbone.vocabulary_size,
        settings=files.tokenizing,
    )


def _num_labels(config: dict[str, Any]) -> int:
    labels = config.get("id2label")
    if isinstance(labels, dict):
        return len(labels)
    return int(config.get("num_labels", 2))  # transformers' default


def _activation(files: ModelFiles) -> Activation:
    kind = (files.activation or "Sigmoid").rpartition(".")[2]
    if kind == "Sigmoid":
        return "sigmoid"
    if kind == "Identity":
        return "none"
    raise ModelLoadFailed(f"its activation_fn is {kind!r}; known are Sigmoid and Identity")
