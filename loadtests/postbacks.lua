-- A shop's server that reports sales by postback, each an order of its own, credited by the click ids it was given.
-- Arguments: a mark that no earlier run has used, the postback's path with program and token, then click ids.
-- The text of a request is made beforehand, as for clicks, but for the order: otherwise wrk takes 2 µs more for each.
local before, behind, sold = "", {}, 0

function init(args)
  for i = 3, #args do
    local sale = "&order_id=" .. args[1] .. "@&amount=49.90&currency=EUR&click_id=" .. args[i]
    before, behind[i - 2] = string.match(wrk.format("GET", args[2] .. sale), "^(.-)@(.*)$")
  end
end

function request()
  sold = sold + 1
  return before .. sold .. behind[sold % #behind + 1]
end
