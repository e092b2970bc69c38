"""What runs differently in the tests than a page says, and what does not run, each with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.docs.steps import Step


@dataclass(frozen=True)
class Change:
    """A command that runs with other options.

    Attributes:
        pattern (str): regular expression for the commands that are meant, searched in their text.
        reason (str): why.
        add (str): options at the end of the command.
        swap (pair of str): regular expression and what takes the place of its matches.
        same_output (bool): the output that the page shows is still to be expected.
    """

    pattern: str
    reason: str
    add: str = ""
    swap: tuple[str, str] | None = None
    same_output: bool = True

    def apply(self, text: str) -> str:
        """Return the text of a command as it runs."""
        if self.swap is not None:
            text = re.sub(*self.swap, text)
        return f"{text} {self.add}".rstrip()


@dataclass(frozen=True)
class Skip:
    """A command, or a snippet, that does not run."""

    pattern: str
    reason: str


CHANGES = (
    Change(r"pipeline-\d{8}|lora-\d{8}", "a shortened run has two steps", swap=(r"-(?!00006000)\d{8}\b", "-00000002")),
    Change(r"pipeline-00006000", "a shortened run of three phases has three", swap=("-00006000", "-00000003")),
    Change(r"phases\.0\.steps=3000", "two steps are enough", swap=(r"--set phases.*", "--until 1")),
    Change(
        r"--dry-run --gpus",
        "counting over a full-size network takes a minute",
        swap=(r"(sd3_paper|sd3_24gb|flux2_klein_24gb)( --photos photos)?", "mini_student --photos PHOTOS"),
        same_output=False,
    ),
    Change(r"--set accumulation", "a shortened run has batches of one picture", swap=(r"--set accumulation=\d+", "")),
    Change(r"--count 3000", "four pictures are enough", swap=(r"--crop 512 --count 3000", "--crop 64 --count 4")),
    Change(r"--crop 256", "small pictures are enough", swap=("--crop 256", "--crop 64")),
    Change(r"tsdsr data shard", "the photographs are small", add="--min-side 64"),
    Change(r"--target \d+x\d+", "the photograph is small", swap=(r"--target \d+x\d+", "--target 96x80")),
    Change(r"tsdsr video .*--from", "the film has eight frames", swap=(r"--from \S+ --to \S+", "--from 0.1 --to 0.2")),
    Change(r"tsdsr convert --base SD3 ", "the LoRA fits one base model", swap=("--base SD3", "--base SD3_OF_LORA")),
    Change(r"/path/to/ComfyUI", "a folder of the reader", swap=("/path/to/ComfyUI", "ComfyUI")),
    Change(r"tsdsr bench mini", "one short measurement is enough", swap=("mini.*", "mini --size 32 --runs 1")),
    Change(r"--engine openvino", "mini takes ten seconds to export", add="--model tiny-mini"),
    Change(r"tsdsr export --to onnx", "mini takes ten seconds to export", add="--model tiny-mini"),
    Change(r"export_pipeline", "mini takes ten seconds to export", swap=('pipeline[(]"mini"', 'pipeline("tiny-mini"')),
)
SKIPS = (
    Skip(r"^(\w+=\S+ )?docker ", "needs Docker; tests/test_docker.py reads the Dockerfile and compose.yaml"),
    Skip(r"^caddy ", "needs Caddy and a domain"),
    Skip(r"torchrun ", "needs eight GPUs, or a cluster; tests/training/test_parallel.py trains in several processes"),
    Skip(r"--on ray=HOST|--actor-gpus|^ray ", "needs a cluster of several machines, with GPUs"),
    Skip(r" --on ray\b|ray\.data|status-\*\.parquet", "runs on the cluster of tests/distributed/test_cluster.py"),
    Skip(r"gradio_client", "runs against the page of tests/integrations/test_space.py, in an environment with Gradio"),
    Skip(r"gradio$|space/app.py", "needs Gradio, which takes another Pillow; tests/integrations/test_space.py has it"),
    Skip(r"check_real_comfyui", "needs ComfyUI; tests/integrations/test_comfyui.py has a stand-in"),
    Skip(r"^npm --prefix web run preview", "serves until it is stopped; tests/web serves and opens the page"),
    Skip(r"^tensorboard ", "serves until it is stopped"),
    Skip(r"^tsdsr bench .*(random|released|peer):", "full-size networks; tests/benchmark has small ones"),
    Skip(r"^hf download ", "downloads gigabytes"),
    Skip(r"^hf (auth|upload) ", "writes to the hub; tests/pipeline/test_hub.py has a stand-in"),
    Skip(
        r"--compile|compile_pipeline",
        "compiling takes a minute; tests/optimize/test_compile.py has small networks",
    ),
    Skip(r"^(\w+=\S+ )*python benchmarks/", "measures for minutes to hours"),
)


def skip_for(step: Step) -> Skip | None:
    """Return why a step does not run."""
    return next((skip for skip in SKIPS if re.search(skip.pattern, step.text)), None)


def changes_for(step: Step) -> list[Change]:
    """Return what is changed in a step."""
    return [change for change in CHANGES if re.search(change.pattern, step.text)]


def changed(step: Step) -> str:
    """Return what is typed for a step."""
    text = step.text
    for change in changes_for(step):
        text = change.apply(text)
    return text


def unused(entries: Iterable[Change | Skip], steps: Iterable[Step]) -> list[str]:
    """Return the patterns that match no step."""
    texts = [step.text for step in steps]
    return [e.pattern for e in entries if not any(re.search(e.pattern, text) for text in texts)]
