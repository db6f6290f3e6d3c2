"""A process that prepares pieces of text: `python -m bertkernels.data.prepared.worker JOB.json FOLDER`.

It takes the numbers of pieces on standard input, a line each, and answers each with lines of JSON on standard output:
{"documents": so many more were read}, then {"counts": …}, {"bad_text": a sentence} or {"refused": what the file system
says}. It ends with its input.
"""

import gc
import json
import os
import sys
from pathlib import Path

from bertkernels.data.prepared.job import Job
from bertkernels.data.prepared.piece import prepare_piece
from bertkernels.data.sentence_encoder import SentenceEncoder
from bertkernels.errors import InputError


def main(job_file: str, folder: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(name: str, value: object) -> None:
        print(json.dumps({name: value}), file=answers, flush=True)

    gc.set_threshold(100_000, 50, 50)  # looking for cycles among lists of sentences takes a fifth of the time
    job = Job.from_json(Path(job_file).read_text(encoding="utf-8"))
    encoder = SentenceEncoder(job.tokenizer)
    for line in sys.stdin:
        try:
            counts = prepare_piece(job, int(line), encoder, Path(folder), lambda count: answer("documents", count))
        except InputError as error:
            answer("bad_text", str(error))
        except OSError as error:
            answer("refused", error.strerror or str(error))
        else:
            answer("counts", counts)


if __name__ == "__main__":
    main(*sys.argv[1:])
