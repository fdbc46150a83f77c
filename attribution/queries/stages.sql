-- All goals of some orders as they are reported, each with the position of its first decision (0: none yet) and its
-- credit in force.
SELECT order_id, goal, visitors, status = 'confirmed',
       (order_id, goal) IN
       (
           SELECT order_id, goal FROM reports
           WHERE program = {program:String} AND order_id IN {orders:Array(String)}
             AND kind = 'reversal' AND amount IS NULL AND items = ''
       ),
       first_seq, affiliate, click_id, method, disputed
FROM
(
    SELECT order_id, goal, visitors, status
    FROM conversion_versions
    WHERE program = {program:String} AND order_id IN {orders:Array(String)}
    ORDER BY revision DESC
    LIMIT 1 BY order_id, goal
) AS conversion
LEFT JOIN
(
    SELECT order_id, goal, min(decision_seq) AS first_seq, argMax(affiliate, version) AS affiliate,
           argMax(click_id, version) AS click_id, argMax(method, version) AS method,
           argMax(disputed, version) AS disputed
    FROM credit_versions
    WHERE program = {program:String} AND order_id IN {orders:Array(String)}
    GROUP BY order_id, goal
) AS credit USING (order_id, goal)
