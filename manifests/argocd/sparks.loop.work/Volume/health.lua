-- What Argo CD shows for the kinds of sparks.loop.work, by the conditions that kstatus reads as well.
local function is(status, type)
  for _, condition in ipairs((obj.status or {}).conditions or {}) do
    if condition.type == type and condition.status == status then
      return condition
    end
  end
end

local function health(status, condition)
  return { status = status, message = condition and condition.message or "" }
end

local observed = (obj.status or {}).observedGeneration
if observed ~= obj.metadata.generation then
  return { status = "Progressing", message = "its controller has not seen this generation yet" }
end
if is("True", "Stalled") then
  return health("Degraded", is("True", "Stalled"))
end
if is("True", "Reconciling") then
  return health("Progressing", is("True", "Reconciling"))
end
-- A Spark that is stopped or asleep is as declared and doesn't run.
if is("True", "Ready") and is("False", "Running") then
  return health("Suspended", is("False", "Running"))
end
if is("False", "Ready") then
  return health("Progressing", is("False", "Ready"))
end
return health("Healthy", is("True", "Ready"))
