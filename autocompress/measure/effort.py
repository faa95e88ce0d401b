"""How long a file is measured."""

from dataclasses import dataclass

ATTEMPTS = 4  # at most, on a machine that is disturbed; of a slow model fewer


@dataclass(frozen=True)
class Effort:
    """How long to measure: about ``seconds`` at most, ``blocks`` pairs at least if time allows, until the ratio's
    interval is within ``width``; while the machine is disturbed, again up to ``attempts`` times in all.
    """

    seconds: float = 0.7
    blocks: int = 16
    width: float = 0.03
    pause_s: float = 0.2  # before measuring again, for a neighbour to finish
    attempts: int = ATTEMPTS


QUICK = Effort(seconds=0.5, blocks=8, width=0.05, pause_s=0.1)


FULL = Effort()


FINAL = Effort(seconds=4.0, blocks=40, width=0.008, pause_s=0.5)
