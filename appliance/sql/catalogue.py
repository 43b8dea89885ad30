from __future__ import annotations


class Catalogue:
    is_empty = True

    def masks_of(self, oid: int, att: int) -> tuple[int, ...]:
        return ()


EMPTY = Catalogue()
QUERIES: tuple[tuple[str, int], ...] = ()


def catalogue_of(masks: object, answers: object) -> Catalogue:
    return EMPTY
