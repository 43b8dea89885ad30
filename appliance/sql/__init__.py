"""What an SQL text asks for. Text comes in; statements go out, in the form that policy judges. Pure.

`statements`   text -> the statements in it: command, relations, columns, functions, marks
`normal`       text -> the same text for all that differ in constants alone, so that an analysis is made once
`catalogue`    the columns that masks name -> the relations, children and views that have them (`relations`)
`lineage`      a statement and what is masked -> where masked columns go: to the result, into an expression, elsewhere
               In layers: `scopes`, `expressions` (with `builtins`), `queries`, `changes`, `ddl`

What cannot be read raises; nothing here guesses in the agent's favour.
"""
