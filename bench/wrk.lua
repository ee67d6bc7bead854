-- The requests that wrk sends: one kind of request, each for a random account.
--
-- Arguments: FILE METHOD PATH BODY SEED
--   FILE  a line for each account, separated by tabs: its email, the ids of its tasks (separated by
--         spaces), its headers
--   PATH  {id} is a random one of these ids
--   BODY  JSON, or empty; {email} is the email of the account, {number} eight random digits

local accounts = {}
local method, path, body

local function read_account(line)
  local account = { ids = {}, headers = "" }
  local column = 0
  for text in (line .. "\t"):gmatch("([^\t]*)\t") do
    column = column + 1
    if column == 1 then
      account.email = text
    elseif column == 2 then
      for id in text:gmatch("%S+") do table.insert(account.ids, id) end
    else
      account.headers = account.headers .. text .. "\r\n"
    end
  end
  return account
end

function init(arguments)
  for line in io.lines(arguments[1]) do table.insert(accounts, read_account(line)) end
  method, path, body = arguments[2], arguments[3], arguments[4] or ""
  math.randomseed(tonumber(arguments[5]))
end

local function fill(text, name, value)
  local first, last = text:find(name, 1, true)
  if not first then return text end
  return text:sub(1, first - 1) .. value .. text:sub(last + 1)
end

function request()
  local account = accounts[math.random(#accounts)]
  local target = fill(path, "{id}", account.ids[math.random(#account.ids)])
  local head = method .. " " .. target .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n" .. account.headers
  if body == "" then return head .. "\r\n" end
  local content = fill(body, "{number}", string.format("%08d", math.random(0, 99999999)))
  content = fill(content, "{email}", account.email)
  return head .. "Content-Type: application/json\r\nContent-Length: " .. #content .. "\r\n\r\n" .. content
end

function done(summary, latency, _)
  local errors = summary.errors
  local line = 'RESULT {"requests":%d,"seconds":%.6f,"bytes":%d,"p50":%.3f,"p95":%.3f,"p99":%.3f,'
    .. '"refused":%d,"lost":%d}'
  print(line:format(
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000,
    errors.status, errors.timeout + errors.connect + errors.read + errors.write
  ))
end
