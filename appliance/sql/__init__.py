"""What an SQL text asks for. Text comes in; statements go out, in the form that policy judges. Pure.

`statements`   text -> the statements in it: command, relations, columns, functions, marks
`normal`       text -> the same text for all that differ in constants alone, so that an analysis is made once
`lineage`      a statement and what is masked -> where masked columns go: to the result, into an expression, elsewhere

What cannot be read raises; nothing here guesses in the agent's favour.
"""
