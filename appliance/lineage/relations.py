"""What is known of a database as far as masks need it. `catalogue` builds it; `lineage` and the session read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from appliance.lineage.scopes import CLEAN, Columns, Taint


class Relation:
    """A table, view, materialised view or foreign table that a mask touches.

    `names`: columns in the order that `*` gives; `numbers`: their attnum; `taints`: what each carries.
    `stored`: False for a column that COPY of the table leaves out (generated ones).
    """

    __slots__ = ("name", "names", "numbers", "oid", "schema", "stored", "taints")

    def __init__(
        self,
        schema: str,
        name: str,
        oid: int,
        names: tuple[str, ...],
        numbers: tuple[int, ...],
        taints: tuple[Taint, ...],
        stored: tuple[bool, ...],
    ) -> None:
        self.schema = schema
        self.name = name
        self.oid = oid
        self.names = names
        self.numbers = numbers
        self.taints = taints
        self.stored = stored

    def columns(self, *, certain: bool) -> Columns:
        return Columns(self.names, self.taints, certain=certain)


class Catalogue:
    """The relations that masks touch, and the names of functions and operators that are not the server's own.

    `masks`: how many masks the plan has. `own_functions`: functions in this database that neither the server nor an
    extension brought; `row_functions`: those that take one row, extensions' too, and so can be written as `row.name`;
    `own_operators`: the same of operators. `missing`: columns that a mask names and the database lacks, and should not.
    `types`: types that users made, by oid: the form (of `catalogue.Made`), and the oid of the type within it, or 0.
    """

    __slots__ = (
        "_by_name", "_by_oid", "_of_schema", "all_masks", "columns", "missing", "own_functions", "own_operators",
        "relations", "row_functions", "types",
    )  # fmt: skip

    def __init__(
        self,
        relations: Iterable[Relation] = (),
        *,
        own_functions: frozenset[str] = frozenset(),
        row_functions: frozenset[str] = frozenset(),
        own_operators: frozenset[str] = frozenset(),
        missing: tuple[str, ...] = (),
        types: Mapping[int, tuple[str, int]] | None = None,
    ) -> None:
        self.relations = tuple(relations)
        self.own_functions = own_functions
        self.row_functions = row_functions
        self.own_operators = own_operators
        self.missing = missing
        self.types: Mapping[int, tuple[str, int]] = {} if types is None else types
        self.all_masks = 0
        self.columns = frozenset(name for relation in self.relations for name in relation.names)
        self._by_oid: dict[int, Relation] = {}
        self._by_name: dict[str, list[Relation]] = {}
        self._of_schema: dict[str, int] = {}
        for relation in self.relations:
            masks = relation.columns(certain=True).masks()
            self.all_masks |= masks
            self._by_oid[relation.oid] = relation
            self._by_name.setdefault(relation.name, []).append(relation)
            self._of_schema[relation.schema] = self._of_schema.get(relation.schema, 0) | masks

    @property
    def is_empty(self) -> bool:
        return self.all_masks == 0

    def find(self, schema: str, name: str, search_path: tuple[str, ...]) -> list[Relation]:
        """The masked relations that a name may mean. An empty `search_path`: it is not known, any schema may be."""
        found = self._by_name.get(name, [])
        if schema:
            return [relation for relation in found if relation.schema == schema]
        if not search_path:
            return found
        return [relation for relation in found if relation.schema in search_path]

    def masks_of_schema(self, schema: str) -> int:
        return self._of_schema.get(schema, 0)

    def taint_of(self, oid: int, number: int) -> Taint:
        """Of a result's column by its origin in RowDescription: the masks whose columns it is, and those from whose
        columns it is made. `number` 0 with an oid is a whole row of that relation: it is made of all its columns."""
        relation = self._by_oid.get(oid)
        if relation is None:
            return CLEAN
        if number == 0:
            return Taint(0, relation.columns(certain=True).masks())
        try:
            return relation.taints[relation.numbers.index(number)]
        except ValueError:  # a system's, or one that is newer than the catalogue
            return CLEAN if number < 0 else Taint(0, relation.columns(certain=True).masks())


NO_CATALOGUE: Final = Catalogue()
