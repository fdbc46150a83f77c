-- Which run of the server holds this key, and which one the engine has looked at: of a cluster the answer is by key.
-- KEYS 1 note of the run that the engine has looked at
-- Returns the run, and the note (nothing where there is none).
return {string.match(redis.call('INFO', 'server'), 'run_id:(%w+)'), redis.call('GET', KEYS[1])}
