-- Conditions have no fixed order, so all of them are read first.
local hs = {}
local conditions = {}
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function is(kind, value)
  return conditions[kind] ~= nil and conditions[kind].status == value
end
local function message(kind)
  return conditions[kind] ~= nil and conditions[kind].message or nil
end

if obj.spec ~= nil and obj.spec.suspend == true then
  hs.status = "Suspended"
  hs.message = "spec.suspend is true"
elseif status.observedGeneration ~= obj.metadata.generation then
  -- This includes a new resource: its observedGeneration is -1.
  hs.status = "Progressing"
  hs.message = "Waiting for the first pass over this generation"
elseif is("Stalled", "True") then
  hs.status = "Degraded"
  hs.message = message("Ready") or message("Stalled")
elseif is("Ready", "True") and not is("Reconciling", "True") then
  hs.status = "Healthy"
  hs.message = message("Ready")
else
  hs.status = "Progressing"
  hs.message = message("Ready") or "Waiting for the first pass"
end
return hs
