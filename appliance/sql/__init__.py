"""What an SQL text asks for. Text comes in; statements go out, in the form that policy judges. Pure.

`statements`   text -> the statements in it: command, relations, columns, functions, marks
`normal`       text -> a key for all that differ in constants alone, so that an analysis is made once
`shape`        text -> what of it may stand in a record: no constants
`copy`         the options of COPY … TO STDOUT
`grammar`, `reading`, `queries`, `definitions`, `commands`, `dangers`    what is done with each kind of node

What cannot be read raises; nothing here guesses in the agent's favour.
"""
