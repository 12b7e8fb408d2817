"""Small pictures with captions, in every form that a recipe can name."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from maquette.errors import DataError
from maquette.recipe.image_text import ImageTextData
from maquette.tasks.image_text.data import check_pairs, load_pairs

PROMPTS = ("a photo of a {}", "a {}.")

WORDS = ("red", "green", "blue", "round", "flat", "old", "new", "small", "large", "dark")


def picture(seed=0, size=(12, 10)):
    """A picture of its own; `size` is width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(seed=0, size=(12, 10)):
    stream = io.BytesIO()
    picture(seed, size).save(stream, format="PNG")
    return stream.getvalue()


def caption(number):
    return f"a {WORDS[number % 10]} thing number {number}"


def write_manifest(folder, rows, name="pairs.csv", images=True):
    """Write rows (mappings with an `image`) as a manifest, and a picture for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    if images:
        for number, image in enumerate(dict.fromkeys(row["image"] for row in rows)):
            (folder / image).parent.mkdir(parents=True, exist_ok=True)
            (folder / image).write_bytes(png(number))
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ".tsv" in name else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def made_rows(count=10, **columns):
    """Rows with an image and a caption each; `columns` are functions of the row number."""
    return [
        {"image": f"{number}.png", "text": caption(number)}
        | {name: value(number) for name, value in columns.items()}
        for number in range(count)
    ]


def write_shard(path, samples):
    """Write samples, each a mapping from suffix to bytes, under keys 000000, 000001, …"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for suffix, content in sample.items():
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def made_shards(folder, sizes=(4, 3, 5)):
    """Write tars with so many samples each; pictures and captions are numbered through."""
    number = 0
    for shard, size in enumerate(sizes):
        samples = []
        for _ in range(size):
            samples.append({"png": png(number), "txt": caption(number).encode()})
            number += 1
        write_shard(folder / f"part-{shard}.tar", samples)
    return f"{folder}/*.tar"


def data_of(path, **options):
    return ImageTextData(**({"path": str(path), "image_size": 8} | options))


def loaded(path, *, seed=0, prompts=PROMPTS, **options):
    return load_pairs(data_of(path, **options), seed=seed, prompts=prompts)


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        check_pairs(data_of(path, **options))
    return str(caught.value)
