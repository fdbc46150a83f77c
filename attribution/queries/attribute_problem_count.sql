SELECT countIf(problem = 0), countIf(problem != 0), countIf(problem = 9)
FROM {table:Identifier}
