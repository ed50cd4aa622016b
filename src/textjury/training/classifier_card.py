"""The card of a classifier that was trained on a rulebook's rows."""

# ruff: noqa: E501  (a Markdown table row is one line)

from __future__ import annotations

from typing import Any


def card(manifest: dict[str, Any]) -> str:
    """The model card in Markdown, from the manifest alone."""
    recipe, trained = manifest["recipe"], manifest["trained"]
    how = f"LoRA of rank {recipe['rank']}, merged" if recipe["method"] == "lora" else "all weights"
    kind = "independent sigmoids" if manifest["multi_label"] else "softmax"
    counts = "\n".join(f"| {label} | {count:,} |" for label, count in manifest["rows_per_label"].items())
    scores = "\n".join(
        f"| {name} | " + " | ".join(_interval(numbers[m]) for m in ("accuracy", "macro_f1", "log_loss")) + " |"
        for name, numbers in manifest["scores"].items()
    )
    return f"""# {manifest["name"]}: a classifier of {len(manifest["id2label"])} labels

Sequence classification ({kind}) on model `{manifest["base"]["model"]}` (SHA-256 `{manifest["base"]["sha256"]}`).
Weights: SHA-256 `{manifest["sha256"]}`. Made by {manifest["created_by"]}.

## Rows

{manifest["rows"]:,} labelled rows of one rulebook, {manifest["held_out_rows"]:,} more held out (near-equal texts and rows of one group on one side).
`trained_rows.txt` has the digests of the {manifest["trained_rows"]:,} distinct texts; no text is in this folder. Who guesses a text exactly can
check whether it was among them.

| label | rows |
|---|---:|
{counts}

## Recipe

{how}; at most {recipe["epochs"]} epochs, AdamW, peak learning rate {recipe["learning_rate"]}, warm-up and linear decay, {recipe["token_budget"]} padded tokens per
step, length grouping, bf16 products where the hardware has them, fp32 weights, seed {recipe["seed"]}; {trained["rows"]:,} rows seen in {trained["steps"]:,} steps
({trained["tokens"]:,} tokens, {trained["minutes"]} minutes). The last weights were kept; nothing was chosen by the held-out rows.

## Scores on the held-out rows

Through the classifier stage, all windows of long texts read; 95 % intervals over groups of near-equal texts.

| system | accuracy | macro F1 | log loss |
|---|---:|---:|---:|
{scores}

## Limits

- It knows the labels above, in the sense that these rows gave them, and no others. In training it read the first {manifest["max_tokens"]} tokens of a text.
- An ensemble must not learn from the rows it was trained on: its answers there are too good. `textjury fit` and `textjury evaluate` leave them out.
- Weights can remember training texts. Treat the folder as confidential as the rows.
"""


def _interval(number: dict[str, float]) -> str:
    return f"{number['value']:.3f} ({number['low']:.3f} to {number['high']:.3f})"
