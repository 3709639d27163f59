"""The command lines that are recorded, by group, and the library that they are about.

A group works in a folder of its own with a copy of the library, so that groups can run beside each other. What the
shell is called with is a command line as a person types it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

TESTS = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
HERE = "HERE"
"""What stands for the folder above all groups, in command lines as in what is recorded."""
CHECKPOINT = "tiny_clip.pt"
MODEL = f"{HERE}/{CHECKPOINT}"
LONG_AGO = 1_600_000_000
FOREIGN_NAME = b"gr\xfcn.png"
"""A name that is no UTF-8, as old archives have them."""


class Shell(Protocol):
    """Runs command lines in a folder, and records what comes back.

    prose: the output is for people; its numbers are recorded. loose: the figures are those of a network that computes
    in integers, which differ from processor to processor.
    """

    folder: Path

    def __call__(self, line: str, *, input: bytes = b"", prose: bool = False, loose: bool = False) -> None: ...


Group = Callable[[Shell], None]


def build(shell: Shell) -> None:
    """The library of all groups: drawings, two JPEGs with EXIF data, a panorama with its tiles, a copy, bad files."""
    root = shell.folder.parent
    shutil.copytree(PICTURES, root, dirs_exist_ok=True)
    shutil.copy(TESTS / "tinyclip" / CHECKPOINT, root)
    trip = root / "photos" / "trip"
    shutil.copy(root / "photos" / "blue" / "1.png", trip / "copy.png")
    (trip / "truncated.jpg").write_bytes((trip / "berlin.jpg").read_bytes()[:1200])
    (trip / "text.jpg").write_text("This is no picture.\n")
    (trip / "empty.png").write_bytes(b"")
    (trip / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>\n")
    (trip / "notes.txt").write_text("Berlin, in May.\n")
    shutil.copy(root / "foreign.png", trip / ".hidden.png")
    shutil.copy(root / "taught" / "green" / "1.png", trip / os.fsdecode(FOREIGN_NAME))
    date_all(root)
    shell(f"index ../photos --model {MODEL} --batch-size 16 --tiles auto --dry-run --json")
    shell(f"index ../photos --model {MODEL} --batch-size 16 --tiles auto --json")
    shell("index --json")
    shell("index ../photos --dry-run --json")


def date_all(folder: Path) -> None:
    """Give every file a time of long ago, so that none counts as still being written."""
    for path in folder.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def query(shell: Shell) -> None:
    shell('query "a red circle" -k 3 --json')
    shell("query a large star on a blue background -k 3 --json")
    shell('query "a red background" --relevant --json')
    shell('query "a yellow background" -k 5 --json')
    shell('query "a yellow background" -k 2 --page 2 --json')
    shell('query "a yellow background" -k 2 --page 99 --json')
    shell('query "a green background" -k 2 --no-cache --json')
    shell('query "a blue background" -k 4 --sort path --json')
    shell('query "a blue background" --sort taken --in ../photos/trip --json')
    shell('query "a small yellow circle above a large green star on a blue background" -k 2 --unfold --json')
    shell("query ../photos/red/1.png -k 3 --json")
    shell("query ../photos/red/1.png --text -k 2 --json")
    shell("query ../foreign.png -k 3 --json")
    shell('query "../photos/trip/panorama.png#0,0,128,128" -k 2 --json')
    shell('query "../photos/trip/panorama.png#50%,0,25%,100%" -k 2 --json')
    shell('query "../foreign.png#0,0,32,32" -k 2 --json')
    shell("query id:3 -k 3 --json")
    shell("query - -k 2 --json", input=(shell.folder.parent / "foreign.png").read_bytes())
    shell('query "a red circle" --with "a blue background" -k 3 --json')
    shell('query "a red circle" --with "a blue background^0.5" --with id:6 -k 3 --json')
    shell('query "a circle" --without "a blue background" -k 3 --json')
    shell('query "a star" --like ../photos/green/1.png -k 3 --json')
    shell('query "a red star" --with "a yellow background" --all -k 3 --json')
    shell('query ../photos/blue/2.png --with "a red circle" --without id:5 --all -k 3 --json')
    for narrowed in (
        "--in ../photos/green",
        "--in ../photos/green --in ../photos/blue -k 3",
        '--in "*.jpg"',
        "--in ../photos/nowhere",
        "--taken 2021",
        "--taken 2019-12..2021-05-17",
        "--taken ..2018",
        "--camera acme",
        "--near 52.52,13.40,5",
        "--format jpeg",
        "--format bmp",
        "--min-size 65x65",
        "--landscape",
        "--portrait",
        "--indexed-since 2020-01-01 -k 1",
        "--indexed-since 2199-01-01",
        "--state partial",
        "--state ok -k 1",
        f"--model {MODEL} -k 1",
    ):
        shell(f'query "a red background" {narrowed} --json')
    shell('query "a red background" --relevant --in ../photos/blue --json')
    (shell.folder / "questions.txt").write_text("a red circle\n\na yellow star\n")
    shell("query --file questions.txt -k 2")
    shell("query --file questions.txt -k 2 --jsonl --in ../photos/red")
    shell('query "a red background" -k 3 --jsonl')
    shell('query "a red background" -k 3 --csv')
    shell('query "a red background" -k 3')
    shell('query "a red background" -k 3 -0')
    shell('query "a green background" --in "*n.png" --csv')
    shell('query "a red background" -k 2 --copy-to copies --link-to links --json')
    shell('query "a red background" -k 2 --copy-to copies --json')
    shell('query "a red background" -k 2 --html found.html --json')


def show(shell: Shell) -> None:
    shell("show ../photos/trip/berlin.jpg --json")
    shell("show ../photos/trip/upright.jpg -k 0 --json")
    shell("show ../photos/trip/panorama.png -k 2 --json")
    shell("show ../photos/trip/copy.png -k 1 --json")
    shell("show ../photos/trip/text.jpg --json")
    shell("show ../photos/trip/truncated.jpg -k 1 --json")
    shell("show ../photos/trip/drawing.png --json")
    shell(f"show 4 -k 1 --model {MODEL} --json")
    shell("show id:5 -k 1 --json")
    shell("show 99999 --json")
    shell("show ../foreign.png --json")
    shell("show ../photos/trip/empty.png --json")
    shell("info --json")
    for state in ("failed", "unsupported", "partial", "missing", "offline", "unreadable"):
        shell(f"info --files {state} --json")
    shell("info --files failed")
    shell("info --files failed -0")
    shell("info --files lost --json")
    shell("doctor --json")
    shell("models --json")
    shell("map --html map.html", prose=True)


def classify(shell: Shell) -> None:
    labels = "--labels blue green red yellow"
    on = '--template "a circle on a {} background" --template "a star on a {} background"'
    shell(f"classify {labels} -k 2 --json")
    shell(f"classify --in ../photos/red {labels} {on} --json")
    shell(f'classify ../photos/red/1.png ../foreign.png {labels} --template "a {{}} background" --json')
    shell(f"classify ../taught/blue {labels} -k 1 --json")
    shell(f"classify ../photos/blue/1.png {labels} --template simple -k 1 --json")
    shell(f"classify ../photos/blue/1.png ../photos/trip/text.jpg {labels} -k 1 --json")
    shell(f"classify ../photos/trip/text.jpg {labels} --json")
    shell(f"classify ../photos/trip {labels} -k 1 --json")
    shell(f"classify ../nowhere.png {labels} --json")
    shell(f"classify ../photos/red/1.png {labels} {on} --multi --json")
    shell(f"classify --in ../photos/green {labels} {on} --multi --threshold 0.01 --json")
    shell(f"classify --in ../photos/green {labels} {on} --unknown --json")
    shell(f"classify --in ../photos/green --labels purple pink --unknown --margin 0 {on} -k 1 --json")
    shell(f"classify --in ../photos/trip {labels} {on} --explain -k 1 --json")
    shell('classify ../photos/red/1.png --labels "warm: red, orange" "cold: =blue, green" --explain --json')
    (shell.folder / "labels.txt").write_text("# colours\nred: orange\nblue\n")
    shell("classify ../photos/red/1.png --labels @labels.txt --json")
    shell("classify ../photos/red/1.png --labels cat,dog --csv")
    shell(f"classify --in ../photos/yellow {labels} {on} -k 2 --jsonl")
    shell(f"classify --in ../photos/yellow {labels} {on} -k 2 --csv")
    shell(f"classify --in ../photos/yellow {labels} {on} -k 2")
    shell(f"classify --in ../photos/yellow {labels} {on} --unknown --csv")
    shell(f"classify --in ../photos/yellow {labels} {on} -k 1 --copy-to sorted --json")
    shell(f"classify ../photos/red/1.png --index ../nowhere {labels} --json")


def alone(shell: Shell) -> None:
    """Without a library."""
    shutil.rmtree(shell.folder / "index")
    shell(f"classify ../photos/red/1.png ../taught/blue/1.png --model {MODEL} --labels red blue --json")
    shell(f"classify ../foreign.png --model {MODEL} --examples ../taught -k 2 --json")
    shell(f'similarity ../photos/red/1.png "a red background" --model {MODEL} --json')
    shell("classify --labels red blue --json")
    shell("classify ../foreign.png --use colours --json")
    shell("query red --json")
    shell("show 1 --json")
    shell("info --json")
    shell("doctor --json")
    shell("prune --json")
    shell("labels list --json")
    shell("classifiers list --json")
    shell("eval index --json")
    shell("eval self --json")
    shell("index --json")
    shell("index ../nowhere --json")
    shell("classify ../foreign.png --model builtin --labels dog cat --json", loose=True)


def examples(shell: Shell) -> None:
    shell("labels --json")
    shell("labels save colours blue green red yellow", prose=True)
    shell('labels save warmth "warm: red, orange" "cold: =blue"', prose=True)
    shell("labels save colours red", prose=True)
    shell("labels save colours red blue --replace", prose=True)
    shell("labels list --json")
    shell("labels list")
    shell("labels show warmth")
    shell("labels show nothing")
    shell("classify ../photos/red/1.png --labels @warmth --json")
    shell("classify ../photos/red/1.png --labels @colours -k 1 --json")
    shell("classify ../photos/red/1.png --labels @nothing --json")
    shell("labels delete colours", prose=True)
    shell("labels delete colours", prose=True)
    shell("labels --json")
    shell("classifiers --json")
    shell("classify --examples ../taught --save colours --json", prose=True)
    shell("classify --examples ../taught --save colours", prose=True)
    shell("classify --examples ../taught --save colours", prose=True)
    shell("classify --examples ../taught --labels red blue green yellow purple --blend 0.5 --save more", prose=True)
    shell("classify --labels red blue --template simple --save words", prose=True)
    shell("classifiers list --json")
    shell("classifiers list")
    shell("classifiers show colours --json")
    shell("classifiers show more --json")
    shell("classifiers show words --json")
    shell("classifiers show nothing --json")
    shell("classify --use colours -k 2 --json")
    shell("classify --use colours --in ../photos/trip --unknown --json")
    shell("classify ../foreign.png --use more --json")
    shell("classify ../foreign.png --use words --multi --json")
    shell("classify ../foreign.png --use colours --multi --json")
    shell("classify ../foreign.png --use nothing --json")
    shell("classify ../foreign.png --examples ../taught --blend 1 -k 2 --explain --json")
    shell("classify ../foreign.png ../photos/green/1.png --examples ../taught --unknown --margin 1 -k 1 --json")
    shell("classify ../foreign.png --examples ../photos/red --json")
    shell("classifiers delete more", prose=True)
    shell("classifiers delete more", prose=True)
    shell("classifiers --json")


def similarity(shell: Shell) -> None:
    shell('similarity "a red circle" "a blue star" --json')
    shell('similarity ../photos/red/1.png ../photos/red/2.png "a red background" id:6 ../foreign.png --json')
    shell('similarity "../photos/trip/panorama.png#0,0,128,128" ../photos/blue/1.png --json')
    shell('similarity "[1, 0.5]" "[0, 1]" "[-1, 0]" --json')
    shell("similarity - id:5 --json", input=(shell.folder.parent / "foreign.png").read_bytes())
    shell('similarity id:5 id:6 "a star" --csv')
    shell('similarity id:5 id:6 "a star"')
    shell(f"similarity id:5 id:6 --model {MODEL} --json")
    shell('similarity "a star" --json')
    shell('similarity "[1, 0.5]" "[0, 1, 2]" --json')
    shell("similarity id:5 id:99999 --json")
    shell("similarity id:5 ../nowhere.png --json")


def evaluate(shell: Shell) -> None:
    shell("eval classify ../photos --json")
    on = '--template "a circle on a {} background"'
    shell(f"eval classify ../taught {on} --json")
    (shell.folder / "labels.txt").write_text("cold: blue\ngreen\nred\nyellow\npurple\n")
    shell(f"eval classify ../taught {on} --labels @labels.txt --sample 8 --json")
    shell(f"eval classify ../taught --model {MODEL} --model builtin --sample 4 --json", loose=True)
    shell("eval classify ../nowhere --json")
    shell(f"eval relevance ../taught {on} --json", loose=True)
    shell("eval relevance ../taught --fit --json")
    shell("eval retrieval ../captions.csv --json")
    shell(f"eval retrieval ../captions.csv --images .. --model {MODEL} --sample 5 --json")
    shell("eval retrieval ../captions.csv --images ../nowhere --json")
    shell("eval self --json")
    shell("eval self ../taught/blue ../foreign.png ../photos/trip/text.jpg --json")
    shell("eval index -k 5 --sample 20 --json")
    shell("eval index --engine exact --json")
    shell("eval index --engine none --json")


def upkeep(shell: Shell) -> None:
    """Runs over folders that change: what is moved, copied, gone, offline, forgotten, damaged."""
    here, root = shell.folder, shell.folder.parent
    shutil.rmtree(here / "index")
    for name in ("red", "blue"):
        shutil.copytree(root / "photos" / name, here / "photos" / name)
    shutil.copy(root / "photos" / "trip" / "text.jpg", here / "photos")
    (here / "photos" / ".hidden").mkdir()
    shutil.copy(root / "taught" / "red" / "1.png", here / "photos" / ".hidden")
    date_all(here)
    shell(f"index photos --model {MODEL} --batch-size 16 --json")
    shell("index --json")
    red = here / "photos" / "red"
    (red / "1.png").rename(here / "photos" / "moved.png")
    shutil.copy2(red / "2.png", here / "photos" / "copied.png")
    (red / "3.png").unlink()
    shutil.copy2(root / "taught" / "red" / "2.png", red / "4.png")
    shutil.copy2(root / "taught" / "red" / "3.png", red / "new.png")
    shell("index --dry-run --json")
    shell("index --json")
    shell("info --files missing --json")
    shell("doctor --json")
    shell("index --json")
    shell('index --exclude "2.*" --json')
    shell('query "a red background" -k 9 --json')
    shell("index --no-exclude --json")
    shell("index --hidden --json")
    shell("index --rehash --json")
    shutil.copy2(root / "photos" / "trip" / "panorama.png", here / "photos")
    shell("index --max-pixels 0.05 --json")
    shell("index --json")
    shell("index --max-pixels 1 --json")
    shell("index --tiles auto --json")
    shell("index --tiles all --json")
    shell("info --json")
    shell("index --tiles none --json")
    shell("index --engine ivf --json")
    shell("info --json")
    shell("index --engine auto --json")
    (here / "photos").rename(here / "pictures")
    shell("index --json")
    shell('query "a red background" -k 3 --json')
    shell("classify --labels red blue -k 1 --json")
    shell("info --files offline --json")
    shell("doctor --json")
    shell("reroot photos nowhere", prose=True)
    shell("reroot photos pictures", prose=True)
    shell("reroot photos pictures", prose=True)
    shell("index --json")
    shell("forget pictures/red", prose=True)
    shell("forget pictures/red", prose=True)
    shell("index --json")
    shell("info --json")
    shell("prune --json")
    shell("prune --cache --json")
    shell('query "a red background" -k 2 --json')
    snapshot = max((here / "index").glob("*.faiss"), key=lambda path: path.stat().st_mtime_ns)  # beside the one before
    snapshot.write_bytes(snapshot.read_bytes()[:-40] + bytes(40))
    shell('query "a red background" -k 2 --json')
    shell("doctor --json")
    shell("index --json")
    shell("doctor --json")
    (here / "list.txt").write_text("../taught/blue/1.png\n../taught/blue/none.png\n../photos/trip/text.jpg\n")
    shell("index --files-from list.txt --json")
    shell("index --files-from list.txt --dry-run --json")
    shell("info --json")


def models(shell: Shell) -> None:
    """Other encoders for a library, filled and dropped."""
    shell("index --precision int8 --json")
    shell("info --json", loose=True)
    shell('query "a red background" -k 50 --json', loose=True)
    shell(f'query "a red background" -k 3 --model {MODEL} --json')
    shell("index --precision fp32 --json")
    shell("info --json", loose=True)
    shell("prune --encoder ../tiny_clip.pt --json")
    shell(f"prune --encoder {MODEL} --json")
    shell(f"prune --encoder {MODEL}+int8 --json")
    shell("index --model builtin --dry-run --json")
    shell("index --model builtin --json")
    shell('query "a dog" -k 50 --json', loose=True)
    shell("show 1 -k 50 --json", loose=True)
    shell("info --json", loose=True)
    shell(f"query red --model {MODEL} -k 1 --json")
    shell("doctor --json")


def failures(shell: Shell) -> None:
    """What ends with another exit code than 0, and was not among the others."""
    shell("")
    shell("nonsense --json")
    shell("query --json")
    shell("query red -k 0 --json")
    shell("query red --sort size --json")
    shell("query red --json --csv")
    shell("query red --landscape --portrait --json")
    shell("query red --state failed --json")
    shell("query red --format doc --json")
    shell("query red --taken yesterday --json")
    shell("query red --near here --json")
    shell("query red --with '' --json")
    shell("query nowhere.png --json")
    shell("query ../photos/trip/text.jpg --json")
    shell("query ../photos/trip/empty.png --json")
    shell("query ../photos --json")
    shell("query id:99999 --json")
    shell('query "../foreign.png#9,9" --json')
    shell("query - --json", input=b"no picture")
    shell("query red --file questions.txt --json")
    shell("query --file nowhere.txt --json")
    shell("query red --model ViT-B/32 --json")
    shell("show 1 --model ViT-B/32 --json")
    shell("query red --index nowhere --json")
    shell("classify --json")
    shell("classify --labels red --threshold 0.5 --json")
    shell("classify --labels red --margin 1 --json")
    shell("classify --labels red --use colours --json")
    shell("classify --labels red --template nothing --json")
    shell("classify --labels red --blend 0.5 --json")
    shell("classify --labels red --model ViT-B/32 --json")
    shell("index --model ViT-B/32 --json")
    shell("index --model nonsense --json")
    shell("index --engine none --json")
    shell("index --tiles some --json")
    shell("index --precision int4 --json")
    shell("index --max-pixels nan --json")
    shell("prune --encoder nothing --json")
    shell("models pull nonsense", prose=True)
    with (shell.folder / "index" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shell("index --json")
        shell("prune --json")
        shell("query red -k 1 --json")
    (shell.folder / "index" / "catalog.db").write_bytes(b"This is no catalog. " * 500)
    shell("query red --json")
    shell("info --json")
    shell("index --json")
    shell("doctor --json")


GROUPS: tuple[Group, ...] = (
    *(upkeep, query, models, examples, classify, show, failures),
    *(evaluate, similarity, alone),
)
"""Those that take longest come first."""
