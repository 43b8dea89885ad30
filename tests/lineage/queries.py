"""Makes SQL that uses the schema of `world` in every way that a column can be read, named or compared."""

# ruff: noqa: S608, E501 - SQL is what this makes
from __future__ import annotations

import re
from random import Random
from typing import NamedTuple

SCHEMA = """
CREATE SCHEMA other;
CREATE TABLE users (id int PRIMARY KEY, name text, email text, age int, ssn int,
                    domain text GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED);
CREATE TABLE staff (badge text) INHERITS (users);
CREATE TABLE orders (id int PRIMARY KEY, user_id int, note text, total int);
CREATE TABLE tags (id int, name text, email text, list text[]);
CREATE TABLE other.users (id int, email text, ssn int, plain text);
CREATE TABLE events (id int, email text, kind text) PARTITION BY LIST (kind);
CREATE TABLE events_a PARTITION OF events FOR VALUES IN ('a');
CREATE TABLE events_b (kind text, id int, email text);
ALTER TABLE events ATTACH PARTITION events_b DEFAULT;
CREATE VIEW contacts AS SELECT u.id, u.email AS contact, u.name FROM users u;
CREATE VIEW shouted AS SELECT id, upper(email) AS loud, age FROM users;
CREATE VIEW both_ways AS SELECT c.id, c.contact, s.loud, o.note FROM contacts c JOIN shouted s USING (id)
                         LEFT JOIN orders o ON o.user_id = c.id;
CREATE VIEW stacked AS SELECT id, contact FROM contacts UNION ALL SELECT id, email FROM events;
CREATE VIEW names AS SELECT id, name FROM users;
CREATE MATERIALIZED VIEW kept AS SELECT id, email, age FROM users;
"""
MASKED = ("public.users.email", "public.events.email")  # mask 0
MASKED_NUMBERS = ("public.users.ssn",)  # mask 1
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "users": (
        ("id", "int"), ("name", "text"), ("email", "text"), ("age", "int"), ("ssn", "int"), ("domain", "text"),
    ),
    "public.users": (
        ("id", "int"), ("name", "text"), ("email", "text"), ("age", "int"), ("ssn", "int"), ("domain", "text"),
    ),
    "staff": (
        ("id", "int"), ("name", "text"), ("email", "text"), ("age", "int"), ("ssn", "int"), ("domain", "text"),
        ("badge", "text"),
    ),
    "orders": (("id", "int"), ("user_id", "int"), ("note", "text"), ("total", "int")),
    "tags": (("id", "int"), ("name", "text"), ("email", "text"), ("list", "text[]")),
    "other.users": (("id", "int"), ("email", "text"), ("ssn", "int"), ("plain", "text")),
    "events": (("id", "int"), ("email", "text"), ("kind", "text")),
    "events_b": (("kind", "text"), ("id", "int"), ("email", "text")),
    "contacts": (("id", "int"), ("contact", "text"), ("name", "text")),
    "shouted": (("id", "int"), ("loud", "text"), ("age", "int")),
    "both_ways": (("id", "int"), ("contact", "text"), ("loud", "text"), ("note", "text")),
    "stacked": (("id", "int"), ("contact", "text")),
    "names": (("id", "int"), ("name", "text")),
    "kept": (("id", "int"), ("email", "text"), ("age", "int")),
}  # fmt: skip
Fields = tuple[tuple[str, str], ...]


TEXTS = (
    "lower({t})", "{t} || {t}", "coalesce({t}, {t})", "({t})::text", "CAST({n} AS text)", "substring({t} from 1 for 3)",
    "CASE WHEN {c} THEN {t} ELSE {t} END", "CASE {t} WHEN {t} THEN 'y' END", "nullif({t}, {t})", "greatest({t}, {t})",
    '{t} COLLATE "C"', "({st})", "to_jsonb({r})::text", "row_to_json({r})->>'email'", "{r}::text", "(ARRAY[{t}, {t}])[1]",
    "format('%s', {t})", "array_to_string(ARRAY[{t}], ',')", "(ARRAY({st}))[1]", "to_json({r}.*)->>'name'",
    "xmlelement(name x, {t})::text", "json_build_object('k', {t})->>'k'", "translate({t}, 'a', 'b')",
    "jsonb_path_query_first(to_jsonb({t}), '$')::text", "(SELECT max(x) FROM (VALUES ({t})) AS w(x))",
    "string_agg({t}, ',') OVER (PARTITION BY {n})", "first_value({t}) OVER (ORDER BY {t})", "lag({t}) OVER ()",
    "concat_ws(',', {r})", "(SELECT q FROM (SELECT {t}) AS s(q))", "split_part({t}, '@', 1)", "({st} LIMIT 1)",
    "(SELECT string_agg(z, '') FROM unnest(ARRAY[{t}, 'z']) AS z)", "regexp_replace({t}, 'c', 'd')", "md5({t})",
    "(jsonb_populate_record(NULL::other.users, to_jsonb({r}))).email", "quote_literal({t})", "max({t}) OVER w",
    "(to_jsonb({r}) - 'id')::text", "(jsonb_build_array({t}))->>0", "json_agg({t}) OVER ()", "(VALUES ({t}))",
    "(WITH i AS (SELECT {t} AS z) SELECT z FROM i)", "(({r}).email)", "(SELECT ({r}).email)", "(SELECT {r}.email)",
)  # fmt: skip
NUMBERS = (
    "{n} + {n}", "length({t})", "({t})::int", "abs({n})", "row_number() OVER (ORDER BY {t})", "rank() OVER w",
    "count(*) OVER (PARTITION BY {t})", "({sn})", "coalesce({n}, {n})", "num_nulls({t}, {n})", "octet_length({t})",
    "(SELECT count(*)::int FROM generate_series(1, {n}))", "sum({n}) OVER ()", "CASE WHEN {c} THEN {n} END", "ascii({t})",
    "generate_series(1, length({t}))", "array_length(string_to_array({t}, 'a'), 1)", "(SELECT count(*) FROM ({st}) AS k)",
    "count({t}) FILTER (WHERE {c}) OVER ()", "least({n}, {n})", "(SELECT {n} WHERE {c})", "-{n}", "({sn} LIMIT 1)",
)  # fmt: skip
CONDITIONS = (
    "{t} = {t}", "{n} < {n}", "{t} LIKE 'a%'", "{t} IS NULL", "{n} = {n}", "{n} BETWEEN 1 AND {n}", "{t} IN ({t}, 'k')",
    "{n} IN ({sn})", "{t} IS DISTINCT FROM {t}", "EXISTS ({st})", "EXISTS ({sn})", "NOT EXISTS ({st})", "NOT ({n} > 3)", "{n} > 0 AND {t} <> ''",
    "{n} > 1 OR {n} < 5", "{t} = ANY (ARRAY[{t}])", "{r} IS NOT NULL", "({n}, {t}) = ({n}, {t})", "{n} = ANY ({sn})",
    "starts_with({t}, 'c')", "{t} ~ 'x'", "{r} = {r}", "true", "{n} > 0", "{n} >= 2", "{t} SIMILAR TO 'a%'", "{n} > 0",
    "{t} > ALL ({st})", "({t} IS NULL) IS TRUE", "true", "{n} = 1", "{n} <> 2",
)  # fmt: skip


class Source(NamedTuple):
    alias: str
    fields: Fields


class Maker:
    """One text. Most are valid; what is not, is one more way to be read wrongly."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.count = 0
        self.ctes: list[tuple[str, Fields]] = []

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def often(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def fresh(self, prefix: str = "q") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    # Expressions

    def field(self, scope: list[Source], kind: str) -> str | None:
        found = [(s, name) for s in scope for name, type_ in s.fields if type_ == kind]
        if not found:
            return None
        source, name = self.random.choice(found)
        way = self.random.randrange(20)
        if way < 4:
            return name
        if way == 4:
            return f"({source.alias}).{name}"
        return f"{source.alias}.{name}"

    def value(self, scope: list[Source], kind: str, depth: int) -> str:
        field = self.field(scope, kind)
        if depth <= 0 or self.often(55):
            if field is not None and self.often(92):
                return field
            return {"int": "7", "text": "'k'", "text[]": "ARRAY['k']", "bool": "true"}[kind]
        if kind == "text":
            return self.text(scope, depth - 1)
        if kind == "int":
            return self.number(scope, depth - 1)
        if kind == "text[]":
            return f"ARRAY[{self.value(scope, 'text', depth - 1)}, {self.value(scope, 'text', 0)}]"
        return self.condition(scope, depth - 1)

    def text(self, scope: list[Source], depth: int) -> str:
        return self.filled(self.random.choice(TEXTS), scope, depth)

    def number(self, scope: list[Source], depth: int) -> str:
        return self.filled(self.random.choice(NUMBERS), scope, depth)

    def condition(self, scope: list[Source], depth: int) -> str:
        return self.filled(self.random.choice(CONDITIONS), scope, depth)

    def filled(self, template: str, scope: list[Source], depth: int) -> str:
        """A template with each of its holes filled: {t} a text, {n} a number, {c} a condition, {r} a row,
        {st}, {sn} a subquery of one text, of one number."""
        out = []
        for part in re.split(r"(\{[a-z]+\})", template):
            match part:
                case "{t}":
                    out.append(self.value(scope, "text", depth))
                case "{n}":
                    out.append(self.value(scope, "int", depth))
                case "{c}":
                    out.append(self.condition(scope, depth - 1) if depth > 0 else self.one("true", "1 = 2"))
                case "{r}":
                    out.append(self.random.choice(scope).alias if scope else "'k'")
                case "{st}" | "{sn}":
                    kind = "text" if part == "{st}" else "int"
                    out.append(self.scalar(kind, scope, depth) if depth > 0 else "SELECT NULL::" + kind)
                case _:
                    out.append(part)
        return "".join(out)

    def scalar(self, kind: str, scope: list[Source], depth: int) -> str:
        """A subquery of one column."""
        items, inner = self.sources(scope, depth - 1, most=1)
        value = self.value(inner + scope if self.often(50) else inner, kind, depth - 1)
        where = f" WHERE {self.condition(inner + scope, self.one_depth(1))}" if self.often(60) else ""
        return f"SELECT {value} FROM {items}{where}{self.one('', ' LIMIT 1', ' LIMIT 1', ' LIMIT 1')}"

    # FROM

    def sources(self, outer: list[Source], depth: int, most: int = 2) -> tuple[str, list[Source]]:
        texts: list[str] = []
        scope: list[Source] = []
        for _ in range(self.random.randint(1, most)):
            text, more = self.source(scope, outer, depth)
            texts.append(text)
            scope += more
        return ", ".join(texts), scope

    def source(self, before: list[Source], outer: list[Source], depth: int) -> tuple[str, list[Source]]:
        way = self.random.randrange(100)
        if depth > 0 and way < 28:
            return self.joined(outer, depth)
        if depth > 0 and way < 45:
            lateral = self.often(50)
            text, fields = self.query(depth - 1, before + outer if lateral else outer)
            return self.aliased(f"{'LATERAL ' if lateral else ''}({text})", fields)
        if way < 49:
            alias = self.fresh("f")
            call = self.one("generate_series(1, 2)", f"unnest(ARRAY[{self.value(before, 'int', 0)}, 2])",
                            f"generate_series(1, {self.value(before, 'int', 0)})")  # fmt: skip
            return f"{call} AS {alias}(n)", [Source(alias, (("n", "int"),))]
        if way < 52:
            alias = self.fresh("v")
            rows = f"(VALUES ({self.value([], 'int', 0)}, {self.value([], 'text', 0)}), (2, 'm'))"
            return f"{rows} AS {alias}(n, t)", [Source(alias, (("n", "int"), ("t", "text")))]
        if way < 55:
            alias = self.fresh("j")
            row = self.random.choice(before).alias if before else "1"
            call = f"jsonb_to_record(to_jsonb({row})) AS {alias}(id int, email text)"
            return call, [Source(alias, (("id", "int"), ("email", "text")))]
        if way < 57:
            alias = self.fresh("x")
            doc = f"xmlelement(name r, xmlelement(name e, {self.value(before, 'text', 0)}))"
            return f"XMLTABLE('/r' PASSING {doc} COLUMNS e text PATH 'e') AS {alias}", [Source(alias, (("e", "text"),))]
        if way < 59:
            call = f"coalesce({self.value(before, 'text', 0)})"  # it has a name, though none is written
            return call, [Source('"coalesce"', (('"coalesce"', "text"),))]
        if self.ctes and way < 75:
            name, fields = self.random.choice(self.ctes)
            return self.aliased(name, fields)
        name = self.random.choice(list(TABLES))
        if self.often(8):
            alias = self.fresh("s")
            return f"{self.one('', 'ONLY ')}{name} AS {alias} TABLESAMPLE bernoulli (100)", [
                Source(alias, TABLES[name])
            ]
        if self.often(15):
            return name, [Source(name, TABLES[name])]
        return self.aliased(name, TABLES[name])

    def aliased(self, text: str, fields: Fields) -> tuple[str, list[Source]]:
        alias = self.fresh()
        if self.often(20) and fields:
            count = self.random.randint(1, len(fields))
            names = [self.fresh("c") for _ in range(count)]
            new = tuple((name, kind) for name, (_, kind) in zip(names, fields, strict=False)) + fields[count:]
            return f"{text} AS {alias}({', '.join(names)})", [Source(alias, new)]
        return f"{text} AS {alias}", [Source(alias, fields)]

    def joined(self, outer: list[Source], depth: int) -> tuple[str, list[Source]]:
        left, a = self.source([], outer, depth - 1)
        right, b = self.source(a, outer, depth - 1)
        kind = self.one("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "JOIN")
        shared = {n for s in a for n, _ in s.fields} & {n for s in b for n, _ in s.fields}
        way = self.random.randrange(10)
        if way < 5 and shared:
            name = self.random.choice(sorted(shared))
            text = f"({left} {kind} {right} USING ({name}){self.one('', '', ' AS u' + str(self.count))})"
        elif way == 5:
            text = f"({left} NATURAL {kind} {right})"
        elif way == 6:
            text = f"({left} CROSS JOIN {right})"
        else:
            condition = self.one("true", f"{self.value(a, 'int', 0)} = {self.value(b, 'int', 0)}")
            text = f"({left} {kind} {right} ON {condition})"
        if self.often(15):
            fields: dict[str, str] = {}
            for source in a + b:
                for name, type_ in source.fields:
                    fields.setdefault(name, type_)
            return self.aliased(text, tuple(fields.items()))
        return text, a + b

    # Queries

    def query(self, depth: int, outer: list[Source]) -> tuple[str, Fields]:
        if depth > 0 and self.often(14):
            return self.set_operation(depth, outer)
        items, scope = self.sources(outer, depth)
        seen = scope + outer if outer and self.often(50) else scope
        targets: list[str] = []
        fields: list[tuple[str, str]] = []
        for _ in range(self.random.randint(1, 4)):
            self.target(targets, fields, scope, seen, depth)
        text = f"SELECT {self.distinct(scope)}{', '.join(targets)} FROM {items}"
        if self.often(35):
            text += f" WHERE {self.condition(seen, self.one_depth(depth))}"
        if self.often(6):
            text += f" GROUP BY {self.one('1', '2', self.value(scope, 'text', 0), 'ROLLUP (1, 2)')}"
        if " OVER w" in text:
            text += f" WINDOW w AS (ORDER BY {self.value(scope, 'text', 0)})"
        if self.often(20):
            text += (
                f" ORDER BY {self.one('1', '2', fields[0][0] if fields else '1', self.value(scope, 'int', 0), 'id')}"
            )
        if self.often(10):
            text += f" LIMIT {self.one('3', '2 OFFSET 1')}"
        return text, tuple(fields)

    def one_depth(self, depth: int) -> int:
        return self.random.randint(0, max(0, min(depth, 2)))

    def distinct(self, scope: list[Source]) -> str:
        if self.often(92):
            return ""
        return self.one("DISTINCT ", f"DISTINCT ON ({self.value(scope, 'int', 0)}) ")

    def target(
        self, targets: list[str], fields: list[tuple[str, str]], scope: list[Source], seen: list[Source], depth: int
    ) -> None:
        way = self.random.randrange(100)
        source = self.random.choice(scope)
        if way < 8:
            targets.append("*")
            fields += [field for each in scope for field in each.fields]
        elif way < 18:
            targets.append(f"{source.alias}.*")
            fields += source.fields
        elif way < 20:
            targets.append(f"({source.alias}).*")
            fields += source.fields
        elif way < 22:
            targets.append(source.alias)
        elif way < 24:
            name = self.random.choice(source.fields or (("id", "int"),))[0]
            targets.append(
                self.one(f"{name}({source.alias})", f"{source.alias}.to_jsonb", f"{source.alias}.row_to_json")
            )
        elif way < 28:
            kind = self.one("text", "int")
            agg = self.one("max", "min", "count", "array_agg", "json_agg")
            targets.append(f"{agg}({self.value(scope, kind, 0)})")
            if self.often(30):
                targets[-1] += f" FILTER (WHERE {self.condition(scope, 0)})"
        else:
            kind = self.one("text", "int", "text", "int", "text[]", "bool")
            value = self.value(seen, kind, self.random.randint(0, 1) if self.often(60) else 0)
            if self.often(50):
                name = self.one(self.fresh("c"), "email", "id", "name", "ctid", self.fresh("c"))
                targets.append(f"{value} AS {name}")
                fields.append((name, kind))
            else:
                targets.append(value)
                if value.rpartition(".")[2].isidentifier():
                    fields.append((value.rpartition(".")[2], kind))

    def set_operation(self, depth: int, outer: list[Source]) -> tuple[str, Fields]:
        kinds = [self.one("text", "int") for _ in range(self.random.randint(1, 3))]
        halves = []
        names = [self.fresh("c") for _ in kinds]
        for _ in range(2):
            items, scope = self.sources(outer, depth - 1)
            values = [f"{self.value(scope, k, 0)} AS {n}" for k, n in zip(kinds, names, strict=True)]
            halves.append(f"SELECT {', '.join(values)} FROM {items}")
        word = self.one("UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL")
        tail = self.one("", "", "", " ORDER BY 1", f" ORDER BY {names[0]}")
        return f"{halves[0]} {word} {halves[1]}{tail}", tuple(zip(names, kinds, strict=True))

    def statement(self) -> str:
        way = self.random.randrange(100)
        if way < 12:
            return self.changing()
        prefix = ""
        if self.often(30):
            prefix = self.with_clause()
        text, _ = self.query(self.random.randint(0, 3), [])
        return prefix + text

    def with_clause(self) -> str:
        parts = []
        recursive = self.often(35)
        for _ in range(self.random.randint(1, 2)):
            name = self.fresh("w") if self.often(70) else self.one("users", "orders", "tags")
            if recursive and self.often(60):
                first, scope = self.sources([], 0, most=1)
                a, b = self.value(scope, "int", 0), self.value(scope, "text", 0)
                c = self.value([Source(name, (("n", "int"), ("t", "text")))], "text", self.one_depth(1))
                parts.append(
                    f"{name}(n, t) AS (SELECT {a}, {b} FROM {first} UNION ALL SELECT n + 100, {c} FROM {name} WHERE n < 100)"
                )
                fields: Fields = (("n", "int"), ("t", "text"))
            elif self.often(15):
                table = self.one("users", "public.users", "orders")
                fields = TABLES[table]
                parts.append(f"{name} AS ({self.one('UPDATE', 'UPDATE')} {table} SET id = id RETURNING *)")
            else:
                text, fields = self.query(self.random.randint(0, 2), [])
                parts.append(f"{name} AS {self.one('', 'MATERIALIZED ')}({text})")
            self.ctes.append((name, fields))
        if self.often(30):
            parts.reverse()  # one that comes later can be read in WITH RECURSIVE
        return f"WITH {'RECURSIVE ' if recursive else ''}{', '.join(parts)} "

    def changing(self) -> str:
        table = self.one("users", "public.users", "orders", "tags", "kept_copy")
        table = "tags" if table == "kept_copy" else table
        scope = [Source(table, TABLES[table])]
        where = self.condition(scope, self.one_depth(1)) if self.often(50) else "true"
        targets: list[str] = []
        self.target(targets, [], scope, scope, 1)
        returning = f" RETURNING {', '.join(targets)}"
        way = self.random.randrange(4)
        if way == 0:
            return f"DELETE FROM {table} WHERE {where}{returning}"
        if way == 1:
            return f"UPDATE {table} SET id = id + 1000 WHERE {where}{returning}"
        if way == 2:
            value = self.value(scope, "text", 1)
            return f"UPDATE {table} SET {self.one('name', 'note')} = {value} WHERE {where}{returning}"
        text, _ = self.query(1, [])
        return f"INSERT INTO tags (email) {text} RETURNING *"
