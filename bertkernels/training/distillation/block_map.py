"""Which of the teacher's blocks each of the student's learns from."""

from collections.abc import Sequence

from bertkernels.errors import InputError

UNIFORM, FIRST = "uniform", "first"


def block_map(wanted: Sequence[str], student: int, teacher: int) -> tuple[int | None, ...]:
    """For each of the student's blocks the teacher's, numbered from 0; None: it learns from none.

    Args:
        wanted: "uniform": the last of each of the teacher's `student` equal parts, as TinyBERT and EfficientBERT;
            "first": the teacher's first; or for each block a number of the teacher's from 1, 0 for none.
        student, teacher: their numbers of blocks.

    Raises:
        InputError: depths that don't fit, or numbers that are none of the teacher's blocks.
    """
    if list(wanted) == [UNIFORM]:
        if teacher % student:
            raise InputError(
                f"--block_map uniform: the teacher's {teacher} blocks can't be divided evenly among the student's "
                f"{student}; name one for each, such as --block_map {' '.join(_spread(student, teacher))}"
            )
        part = teacher // student
        return tuple(range(part - 1, teacher, part))
    if list(wanted) == [FIRST]:
        if student > teacher:
            raise InputError(f"--block_map first: the student has {student} blocks, the teacher only {teacher}")
        return tuple(range(student))
    numbers = [int(word) if word.isdecimal() else -1 for word in wanted]
    if not numbers or min(numbers) < 0:
        raise InputError(f"--block_map must be {UNIFORM}, {FIRST} or numbers of blocks, not {' '.join(wanted)!r}")
    if len(numbers) != student:
        raise InputError(f"--block_map names {len(numbers)} blocks, the student has {student}")
    for number in numbers:
        if number > teacher:
            raise InputError(f"--block_map names block {number}, the teacher has {teacher}")
    return tuple(number - 1 if number else None for number in numbers)


def _spread(student: int, teacher: int) -> list[str]:
    return [str(max(1, round((number + 1) * teacher / student))) for number in range(student)]
