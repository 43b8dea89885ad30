"""Where the masked columns of a database go in an SQL statement. Pure.

`catalogue`    what is known of a database: rows of two queries -> the relations that masks touch
`relations`    those relations, by name and by number
`lineage`      a text and a catalogue -> a Flow for each statement: to the result, into an expression, elsewhere
`scopes`       which columns a name may mean, and what masked columns are in them
`expressions`, `queries`, `ddl`     what is done with each kind of node
`builtins`     the server's functions and operators that only do what their arguments say

It is conservative: a name that may be a masked column is one, and what is not known could be anything.
"""
