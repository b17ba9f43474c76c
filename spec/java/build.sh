#!/bin/sh
# Builds the Spring Kafka services of this folder, once for each content of it. The last line that
# it prints is the folder of the result, with classes/ and lib/. Needs maven and a Java 17 runtime;
# the compiler is taken as a module of the runtime, because Debian's JRE has it and no javac.
set -eu
cd "$(dirname "$0")"

sources=$(find src -name '*.java' | LC_ALL=C sort)
# shellcheck disable=SC2086
content=$(cat pom.xml build.sh $sources | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/postbox
result=$cache/java-$content

if [ ! -d "$result" ]; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/java-build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mvn -q -B -Dstyle.color=never dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/lib" >&2
  # shellcheck disable=SC2086
  java -m jdk.compiler/com.sun.tools.javac.Main --release 17 -d "$work/classes" \
    -cp "$(find "$work/lib" -name '*.jar' | tr '\n' ':')" $sources >&2
  # Somebody else may have been faster: then theirs is as good.
  mv -T "$work" "$result" 2>/dev/null || [ -d "$result" ]
fi
# On a line of its own, whatever Maven left at the end of the last one.
printf '\n%s\n' "$result"
