-- A shop's server that reports sales by postback, each an order of its own, credited by the click ids it was given.
-- Arguments: a mark that no earlier run has used, the postback's path with program and token, then click ids.
local mark, path, clicks, sold = "", "", {}, 0

function init(args)
  mark, path = args[1], args[2]
  for i = 3, #args do clicks[i - 2] = args[i] end
end

function request()
  sold = sold + 1
  local click = clicks[sold % #clicks + 1]
  return wrk.format("GET", path .. "&order_id=" .. mark .. sold .. "&amount=49.90&currency=EUR&click_id=" .. click)
end
