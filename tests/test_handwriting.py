"""How well the trained network reads handwriting that is made for it: few of it, the least it must.

`python -m tests.benchmarks.handwriting` measures more.
"""

from pathlib import Path

import pytest

from tests.benchmarks import handwriting, paper

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def read(real: Path) -> handwriting.Reader:
    return handwriting.reader(real)


def test_nine_in_ten_numbers_are_wholly_right(read: handwriting.Reader, real: Path) -> None:
    pages = paper.numbers(72, 2, handwriting.digits(real))
    found = handwriting.correct(read, pages)
    assert found.keys() == set(paper.PAPERS)
    assert sum(map(sum, found.values())) >= 0.9 * 72, handwriting.table("right", found)


def test_what_is_no_digit_is_hardly_ever_a_confident_one(read: handwriting.Reader) -> None:
    found = handwriting.confident(read, paper.letters(2)) | handwriting.confident(
        read, paper.sheets(8, 2)
    )
    found.pop("look-alike letter")
    every = [one for kind in found.values() for one in kind]
    assert sum(every) <= 0.05 * len(every), handwriting.table("confident", found)


def test_a_bad_photo_of_a_digit_is_read_as_its_image_is(
    read: handwriting.Reader, real: Path
) -> None:
    photo, image = handwriting.photo_errors(read, real, 100, 2)
    assert photo <= image + 1
