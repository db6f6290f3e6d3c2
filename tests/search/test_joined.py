"""Several commands on one study: no plan twice, and only with the same settings."""

from collections import Counter


def test_two_commands_share_a_study(command):
    for process in [command.start(together=4), command.start(together=4)]:
        command.ended(process)
    began = Counter(line[2] for line in command.said() if line[0] == "begins")
    assert set(began.values()) == {1}
    assert len({pid for _, pid, _ in command.said()}) == 4, "the workers of both took part"

    refused = command.start(evaluations=14, seed=3)
    output, _ = refused.communicate(timeout=600)
    assert refused.returncode == 2
    assert "begun with other settings" in output and "seed: 0 before, 3 now" in output
