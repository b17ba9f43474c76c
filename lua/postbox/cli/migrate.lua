--- postbox migrate: creates or updates the tables, or prints the SQL that would.
-- @module postbox.cli.migrate
local migrate = {}

function migrate.describe(parser)
  parser:command("migrate", "Create or update postbox's tables.")
    :flag("--print", "print the SQL instead of running it, for Flyway and the like")
end

function migrate.run(box, args)
  local done, message = box:migrate { print = args.print or nil }
  if not done then
    return nil, message
  end
  if args.print then
    io.stdout:write(done)
  else
    print(("The schema %s is up to date."):format(box.schema))
  end
  return true
end

return migrate
