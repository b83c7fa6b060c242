"""A small cross-encoder: its number is how many of a passage's words are words of the question, less two."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[SEP]", "how", "reset", "sensor", "charge", "battery", "hold", "button", "the"]


def written(folder: Path, *, outputs: int = 1, inputs: tuple[str, ...] = ()) -> Path:
    """A folder as cross-encoders are published in; with more outputs, or other inputs, one that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: id_ for id_, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    onnx.save(_model(outputs, inputs), folder / "model.onnx")
    return folder


def _model(outputs: int, inputs: tuple[str, ...]) -> onnx.ModelProto:
    """Words alike, one of the question and one of the passage, both known: counted, less two."""
    nodes = [
        helper.make_node("Unsqueeze", ["input_ids", "one"], ["down"]),
        helper.make_node("Unsqueeze", ["input_ids", "two"], ["across"]),
        helper.make_node("Equal", ["across", "down"], ["alike"]),
        helper.make_node("Greater", ["input_ids", "sep"], ["is_word"]),
        helper.make_node("Cast", ["is_word"], ["word"], to=TensorProto.INT64),
        helper.make_node("Mul", ["word", "attention_mask"], ["read"]),
        helper.make_node("Mul", ["read", "token_type_ids"], ["of_passage"]),
        helper.make_node("Sub", ["read", "of_passage"], ["of_question"]),
        helper.make_node("Unsqueeze", ["of_passage", "two"], ["rows"]),
        helper.make_node("Unsqueeze", ["of_question", "one"], ["columns"]),
        helper.make_node("Mul", ["rows", "columns"], ["pairs"]),
        helper.make_node("Cast", ["alike"], ["same"], to=TensorProto.INT64),
        helper.make_node("Mul", ["pairs", "same"], ["met"]),
        helper.make_node("ReduceSum", ["met", "both"], ["count"], keepdims=0),
        helper.make_node("Cast", ["count"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["number", "less"], ["logit"]),
        helper.make_node("Unsqueeze", ["logit", "one"], ["column"]),
        helper.make_node("Concat", ["column"] * outputs, ["logits"], axis=1),
    ]
    constants = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("two", TensorProto.INT64, [1], [2]),
        helper.make_tensor("both", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("sep", TensorProto.INT64, [1], [2]),
        helper.make_tensor("less", TensorProto.FLOAT, [1], [2.0]),
    ]
    shape = ["pairs_of_it", "length"]
    names = ("input_ids", "attention_mask", "token_type_ids", *inputs)
    graph = helper.make_graph(
        nodes,
        "overlap",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pairs_of_it", outputs])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
