"""An experiment of twelve jobs, of which the last two wait for the others; run as a script, it does them."""

import sys
import time
from pathlib import Path

from bertkernels.analysis.experiment import Experiment
from bertkernels.analysis.jobs import MEASURED, Job, Trial
from bertkernels.analysis.results import Results
from bertkernels.analysis.runner import work


class Squares(Experiment):
    """What is begun is said in a file beside the folder."""

    name = "squares"

    def __init__(self, folder, seconds=0.0):
        self.folder, self.seconds = Path(folder), seconds

    def settings(self):
        return {"experiment": self.name}

    def jobs(self, lines):
        first = [Job(Trial(f"square {number}", {"number": number}), MEASURED) for number in range(10)]
        if len(lines) < 10:
            return first
        total = sum(line.get("square", 0) for line in lines)
        return first + [Job(Trial(f"sum and {more}", {"total": total + more}), MEASURED) for more in range(2)]

    def do(self, job, lines):
        with open(self.folder.parent / "said", "a", encoding="utf-8") as said:
            said.write(f"{job.trial.name}\n")
        time.sleep(self.seconds)
        number = job.trial.labels.get("number")
        return {} if number is None else {"square": number**2}


if __name__ == "__main__":
    experiment = Squares(sys.argv[1], seconds=0.1)
    work(experiment, Results(experiment.folder, experiment.settings()))
