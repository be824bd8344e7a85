from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import included_files, read_task_file, resolve, task_files, task_path

METADATA = {"scoring": "exact", "t2t_question": "{{question}}", "t2t_prompt": "{{message}} {{prompt}}"}


def write(path: Path, **content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_task_is_found_in_any_folder_and_beside_them(tmp_path: Path) -> None:
    nested, flat = write(tmp_path / "arc" / "arc_text.yaml", a=1), write(tmp_path / "free.yaml", a=1)
    assert task_path(tmp_path, "arc_text") == nested
    assert task_path(tmp_path, "free") == flat


def test_an_unknown_task_is_refused_with_the_nearest_and_shared_files_are_no_tasks(tmp_path: Path) -> None:
    write(tmp_path / "arc" / "arc_text.yaml", a=1)
    write(tmp_path / "shared" / "arc_txt.yaml", a=1)
    with pytest.raises(RefusedError, match=r"received 'arc_txt'\. Did you mean 'arc_text'\? Choose one of: arc_text\."):
        task_path(tmp_path, "arc_txt")


def test_a_task_with_two_files_is_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder / "arc_text.yaml", a=1)
    with pytest.raises(RefusedError, match="A task must have one file"):
        task_path(tmp_path, "arc_text")


def test_own_keys_replace_included_ones_and_a_later_file_an_earlier(tmp_path: Path) -> None:
    write(tmp_path / "shared" / "base.yaml", a=0, b=0, c=0, d=0)
    write(tmp_path / "shared" / "first.yaml", include="base.yaml", b=1, c=1, d=1)
    write(tmp_path / "shared" / "second.yaml", c=2, d=2)
    path = write(tmp_path / "x" / "x.yaml", include=["../shared/first.yaml", "../shared/second.yaml"], d=3)
    assert resolve(path, tmp_path) == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_metadata_of_all_files_comes_together(tmp_path: Path) -> None:
    write(tmp_path / "shared" / "t2t.yaml", metadata={"t2t_question": "Q", "t2t_prompt": "P", "scoring": "exact"})
    path = write(tmp_path / "x" / "x.yaml", include="../shared/t2t.yaml", metadata={"scoring": "letter"})
    assert resolve(path, tmp_path)["metadata"] == {"t2t_question": "Q", "t2t_prompt": "P", "scoring": "letter"}


def test_all_files_of_tasks_are_listed_once_and_without_dots(tmp_path: Path) -> None:
    write(tmp_path / "shared" / "base.yaml", a=1)
    write(tmp_path / "shared" / "first.yaml", include="base.yaml")
    for name in ("x", "y"):
        write(tmp_path / name / f"{name}.yaml", include=["../shared/first.yaml", "../shared/base.yaml"])
    shared = [tmp_path / "shared" / "first.yaml", tmp_path / "shared" / "base.yaml"]
    assert list(included_files(tmp_path / "x" / "x.yaml", tmp_path)) == [tmp_path / "x" / "x.yaml", *shared]
    assert task_files(tmp_path, dict.fromkeys("xy", Path("questions.jsonl"))) == [
        tmp_path / "x" / "x.yaml",
        *shared,
        tmp_path / "y" / "y.yaml",
    ]


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "shared" / "a.yaml", include="b.yaml")
    write(tmp_path / "shared" / "b.yaml", include="a.yaml")
    with pytest.raises(RefusedError, match="must not include itself"):
        resolve(tmp_path / "shared" / "a.yaml", tmp_path)
    assert len(list(included_files(tmp_path / "shared" / "a.yaml", tmp_path))) == 2


def test_a_missing_include_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x" / "x.yaml", include="../shared/gone.yaml")
    with pytest.raises(RefusedError, match=r"gone.yaml must be a file"):
        resolve(path, tmp_path)


@pytest.mark.parametrize("missing", METADATA)
def test_a_task_without_scoring_or_t2t_prompts_is_refused(tmp_path: Path, missing: str) -> None:
    write(tmp_path / "x" / "x.yaml", metadata={key: value for key, value in METADATA.items() if key != missing})
    with pytest.raises(RefusedError, match=rf"x\.yaml must have the metadata .*missing \['{missing}'\]"):
        read_task_file(tmp_path, "x")


def test_an_unknown_scoring_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x" / "x.yaml", metadata={**METADATA, "scoring": "leter"})
    with pytest.raises(RefusedError, match=r"metadata\.scoring of x\.yaml .*Did you mean 'letter'\?"):
        read_task_file(tmp_path, "x")
