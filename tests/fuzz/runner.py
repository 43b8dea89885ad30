"""What the fuzz loops share: seeded mutation, a clock, the report; atheris instead if asked for and importable."""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.model.errors import PeerError

MAX_INPUT = 20_000  # bytes of one mutant


@dataclass(frozen=True)
class Harness:
    """`check` gets a mutant and a source of chance; `tokens` are what the grammar is sensitive to."""

    name: str
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]
    check: Callable[[bytes, random.Random], None]


def mutant(harness: Harness, chance: random.Random) -> bytes:
    data = bytearray(chance.choice(harness.seeds))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 5, 8, 20))):
        at = chance.randint(0, len(data))
        match chance.randrange(7):
            case 0:
                data[at : at + 1] = bytes((chance.randrange(256),))
            case 1:
                data[at:at] = chance.choice(harness.tokens)
            case 2:
                data[at : at + chance.randint(1, 8)] = b""
            case 3:
                data[at : at + 4] = chance.choice(harness.tokens)
            case 4:
                other = chance.choice(harness.seeds)
                data[at:at] = other[chance.randint(0, len(other)) :]
            case 5:
                part = bytes(data[at : at + chance.randint(1, 40)])
                data[at:at] = part * chance.choice((1, 2, 50))
            case _:
                if at < len(data):
                    data[at] ^= 1 << chance.randrange(8)
    return bytes(data[:MAX_INPUT])


def judge(harness: Harness, data: bytes, chance: random.Random) -> None:
    try:
        harness.check(data, chance)
    except PeerError:
        pass


def fuzz(harness: Harness, seconds: float, seed: int) -> bool:
    """Whether nothing was found in this time. Each input has its own seed, so that it can be made again."""
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        for _ in range(100):
            chance = random.Random(seed + count)
            data = mutant(harness, chance)
            try:
                judge(harness, data, chance)
            except Exception:
                traceback.print_exc()
                print(f"{harness.name}: found with --seed {seed + count}\ninput = {data!r}")
                return False
            count += 1
    print(f"{harness.name}: {count} inputs from seed {seed}, nothing found")
    return True


def with_atheris(harness: Harness, seconds: float) -> None:
    atheris = importlib.import_module("atheris")

    def once(data: bytes) -> None:
        judge(harness, data, random.Random(len(data)))

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", f"-max_len={MAX_INPUT}"], once)
    atheris.Fuzz()


def main(*harnesses: Harness) -> None:
    """The command line of one harness or of several; `--seconds` is shared between them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="default: the time, printed")
    parser.add_argument("--atheris", action="store_true", help="use libFuzzer through atheris (one harness only)")
    options = parser.parse_args()
    if options.atheris:
        with_atheris(harnesses[0], options.seconds)
        return
    seed = int(time.time() * 1000) if options.seed is None else options.seed
    fine = [fuzz(harness, options.seconds / len(harnesses), seed) for harness in harnesses]
    sys.exit(0 if all(fine) else 1)
