std = "min"
max_line_length = 120
exclude_files = { "build", "rockspec" }

files["spec/**/*_spec.lua"] = { std = "min+busted" }
