-- What browsers send when readers follow a link on other sites, so that servers parse requests of real size: 1,000
-- different readers in turn, by their browser, its language and the page they come from.
-- With an argument N they follow the links /c/bench-0 to /c/bench-(N-1), the n-th 1/n times as often as the first.
local AGENTS = {
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36",
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36",
  "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Mobile Safari/537.36",
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:%d.0) Gecko/20100101 Firefox/%d.0",
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
}
local LANGUAGES = { "en-GB,en;q=0.9,de;q=0.8", "en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9", "es-ES,es;q=0.9,en;q=0.7" }
local READERS = 1000
local requests, turn, links = {}, 0, nil

function init(args)
  links = tonumber(args[1])
  math.randomseed(os.time())
  for reader = 1, READERS do
    local agent, version = AGENTS[reader % #AGENTS + 1], 120 + math.floor(reader / 7) % 37
    requests[reader] = wrk.format("GET", nil, {
      ["Host"] = wrk.headers["Host"],
      ["User-Agent"] = string.format(agent, version, version),
      ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
      ["Accept-Encoding"] = "gzip, deflate, br, zstd",
      ["Accept-Language"] = LANGUAGES[math.floor(reader / 3) % #LANGUAGES + 1],
      ["Referer"] = "https://blog-" .. reader % 83 .. ".example/2026/the-ten-best-boots",
      ["Sec-Fetch-Dest"] = "document",
      ["Sec-Fetch-Mode"] = "navigate",
      ["Sec-Fetch-Site"] = "cross-site",
      ["Sec-Fetch-User"] = "?1",
      ["Upgrade-Insecure-Requests"] = "1",
    })
    if links then requests[reader] = string.gsub(requests[reader], "^GET %S+", "", 1) end
  end
end

function request()
  turn = turn % READERS + 1
  if not links then return requests[turn] end
  return "GET /c/bench-" .. math.floor(links ^ math.random()) - 1 .. requests[turn]
end
