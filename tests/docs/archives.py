"""The steps of the pages on archives, which need a cluster and a bucket."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.docs.pages import ROOT
from tests.docs.reader import Reader
from tests.docs.sandbox import Sandbox
from tests.docs.steps import steps_of
from tests.s3_server import S3Server
from tsdsr.distributed.cluster import connected

HOW_TO = ROOT / "docs" / "how-to"


def read_pages_on_archives(address: str, s3_server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the steps on a cluster without GPUs, with a bucket that holds what the pages name.

    Args:
        address (str): address of the cluster.
        s3_server (S3Server): has no bucket ``museum`` yet.
        folder (Path): an empty folder.
        monkeypatch (MonkeyPatch): of the test.
    """
    Sandbox(folder / "store").prepare(folder, "photos/ photo.jpg")
    photo = (folder / "photo.jpg").read_bytes()
    bucket = s3_server.bucket("museum")
    for name in ("scans/a.jpg", "scans/b.jpg"):
        s3_server.put(bucket, name, photo)
    rows = pa.table({"input": [f"{bucket}/scans/a.jpg"], "output": [f"{bucket}/catalogue-restored/a.jpg"]})
    (folder / "catalogue").mkdir()
    pq.write_table(rows, folder / "catalogue" / "part.parquet")
    with ExitStack() as stack:
        reader = Reader(folder, monkeypatch, stack)
        for step in steps_of(HOW_TO / "archives.md"):
            if "--actor-gpus" not in step.text:
                text = step.text.replace(" --on ray", f" --on ray={address} --actors 1")
                reader.do(dataclasses.replace(step, text=text))
        (snippet,) = (step for step in steps_of(HOW_TO / "ray-cluster.md") if step.language == "python")
        text = snippet.text.replace("s3://museum", str(folder))  # pyarrow would ask Amazon
        text = text.replace("(1, 16)", "(1, 1)").replace("actor_gpus=0.5", "actor_gpus=0")
        with connected(address):
            reader.do(dataclasses.replace(snippet, text=text))
