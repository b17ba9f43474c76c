-- Busted's command line, whatever its own script is called on this machine.
require "busted.runner"({ standalone = false })
