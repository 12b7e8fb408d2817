"""Load a CLIP in the Hugging Face format with transformers and print what it makes of things.

    .venv-peers/bin/python tests/parity/read_clip_export.py FOLDER IMAGE TEXT...

Prints JSON: token ids, pixels and features. Runs in .venv-peers, for the live test of the export.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from PIL import Image
from torchvision_shim import import_torchvision

import_torchvision()
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer  # noqa: E402


def main() -> None:
    folder, picture, *texts = sys.argv[1:]
    model, info = CLIPModel.from_pretrained(folder, output_loading_info=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessor.from_pretrained(folder)
    written = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    with Image.open(picture) as image:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model.eval()(
            input_ids=written["input_ids"],
            attention_mask=written["attention_mask"],
            pixel_values=pixels,
        )
    Path(folder, "answers.json").write_text(
        json.dumps(
            {
                "problems": {key: sorted(map(str, keys)) for key, keys in info.items() if keys},
                "activation": model.config.text_config.hidden_act,
                "ids": [
                    row[: int(mask.sum())]
                    for row, mask in zip(
                        written["input_ids"].tolist(), written["attention_mask"], strict=True
                    )
                ],
                "longest": tokenizer.model_max_length,
                "pixels": pixels.tolist(),
                "logits": output.logits_per_image.tolist(),
                "text_features": output.text_embeds.tolist(),
                "image_features": output.image_embeds.tolist(),
            }
        )
    )


if __name__ == "__main__":
    main()
