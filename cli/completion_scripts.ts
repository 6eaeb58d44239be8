/**
 * The completions of a shell as a script: a table of the commands, and a function that walks through
 * the words before the cursor. The shell starts cloudlet only for what changes, which are runs and
 * images: a start at each press of Tab would be felt.
 *
 * @module
 */
import type { CompletedCommand, Values } from "./completion_model.ts";

/** A shell for which there are completions. */
export type Shell = "bash" | "zsh" | "fish";

/** The script for a shell. */
export function completionScript(shell: Shell, commands: readonly CompletedCommand[]): string {
  const scripts = { bash, zsh, fish } as const;
  return scripts[shell](commands);
}

/** A word of a shell's own. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The same for fish, in which a backslash escapes in single quotes. */
function fishQuoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

/** A kind of value in one word: `files`, or `words:` and these with commas. */
function kindOf(values: Values): string {
  return values.kind === "words" ? `words:${values.words.join(",")}` : values.kind;
}

/** `FLAG KIND` for each flag with a value. */
function valued({ flags }: CompletedCommand): string[] {
  return flags.flatMap(({ names, values }) =>
    values === undefined ? [] : names.map((name) => `${name} ${kindOf(values)}`)
  );
}

function flagNames({ flags }: CompletedCommand): string[] {
  return flags.flatMap(({ names }) => names);
}

const HEAD = (shell: Shell) =>
  `# Completions of cloudlet for ${shell}, written by: cloudlet completions ${shell}`;

function bash(commands: readonly CompletedCommand[]): string {
  const cases = commands.map((command) => {
    const { path, subcommands, words, takesProgram } = command;
    return `    ${quoted(path.join(" "))})
      subcommands=${quoted(subcommands.map(({ name }) => name).join(" "))}
      flags=${quoted(flagNames(command).join(" "))}
      valued=(${valued(command).map(quoted).join(" ")})
      words=${quoted(kindOf(words))} program=${takesProgram ? 1 : ""} ;;`;
  });
  return `${HEAD("bash")}
_cloudlet_table() {
  case $1 in
${cases.join("\n")}
  esac
}

_cloudlet() {
  local line=\${COMP_LINE:0:COMP_POINT} cur='' at='' kind='' word='' entry='' i=0
  local subcommands='' flags='' words='' program='' typed=() valued=() found=()
  COMPREPLY=()
  # Not COMP_WORDS, in which a colon and an equals sign end a word.
  read -ra typed <<< "$line"
  if [[ $line == *[[:blank:]] ]]; then typed+=(''); fi
  cur=\${typed[\${#typed[@]} - 1]}
  _cloudlet_table ''
  for ((i = 1; i < \${#typed[@]} - 1; i++)); do
    word=\${typed[i]}
    if [[ -n $kind ]]; then
      kind=''
    elif [[ $word == -* ]]; then
      if [[ $word == -- ]]; then flags=''; fi
      for entry in "\${valued[@]}"; do
        if [[ $entry == "$word "* ]]; then kind=\${entry#* }; fi
      done
    elif [[ " $subcommands " == *" $word "* ]]; then
      at="\${at:+$at }$word"
      _cloudlet_table "$at"
    elif [[ -n $program ]]; then
      flags='' words=files program=''
      break
    fi
  done
  if [[ -z $kind && $cur == -*=* ]]; then
    for entry in "\${valued[@]}"; do
      if [[ $entry == "\${cur%%=*} "* ]]; then kind=\${entry#* }; fi
    done
    cur=\${cur#*=}
  fi
  if [[ -z $kind && $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
    return
  fi
  if [[ -z $kind && -n $subcommands ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$subcommands" -- "$cur")
    return
  fi
  case \${kind:-$words} in
    files | directories)
      compopt -o filenames 2> /dev/null
      entry=-f
      if [[ \${kind:-$words} == directories ]]; then entry=-d; fi
      mapfile -t COMPREPLY < <(compgen "$entry" -- "$cur")
      return ;;
    runs | images | oci-images)
      mapfile -t found < <("\${typed[0]}" completions --list "\${kind:-$words}" 2> /dev/null)
      mapfile -t COMPREPLY < <(compgen -W "\${found[*]}" -- "$cur") ;;
    words:*)
      entry=\${kind:-$words}
      entry=\${entry#words:}
      mapfile -t COMPREPLY < <(compgen -W "\${entry//,/ }" -- "$cur") ;;
  esac
  # Bash itself keeps what stands before the last character that ends a word to it.
  for ((i = \${#cur} - 1; i >= 0; i--)); do
    if [[ \${cur:i:1} == [:@] && $COMP_WORDBREAKS == *"\${cur:i:1}"* ]]; then
      COMPREPLY=("\${COMPREPLY[@]#"\${cur:0:i + 1}"}")
      break
    fi
  done
}
complete -F _cloudlet cloudlet
`;
}

/** \`NAME:BRIEF\`, as _describe takes it. */
function described(name: string, brief: string): string {
  return quoted(`${name.replaceAll(":", "\\:")}:${brief}`);
}

function zsh(commands: readonly CompletedCommand[]): string {
  const cases = commands.map((command) => {
    const { path, subcommands, flags, words, takesProgram } = command;
    const named = flags.flatMap(({ names, brief }) => names.map((name) => described(name, brief)));
    return `    ${quoted(path.join(" "))})
      subcommands=(${subcommands.map(({ name, brief }) => described(name, brief)).join(" ")})
      flags=(${named.join(" ")})
      valued=(${valued(command).map(quoted).join(" ")})
      kinds=${quoted(kindOf(words))} program=${takesProgram ? 1 : ""} ;;`;
  });
  return `#compdef cloudlet
${HEAD("zsh")}
_cloudlet_table() {
  case $1 in
${cases.join("\n")}
  esac
}

_cloudlet() {
  local at='' kind='' kinds='' program='' word='' entry='' cur=$words[CURRENT]
  local -a subcommands flags valued found
  local -i i
  _cloudlet_table ''
  for ((i = 2; i < CURRENT; i++)); do
    word=$words[i]
    if [[ -n $kind ]]; then
      kind=''
    elif [[ $word == -* ]]; then
      if [[ $word == -- ]]; then flags=(); fi
      for entry in $valued; do
        if [[ \${entry%% *} == $word ]]; then kind=\${entry#* }; fi
      done
    elif [[ -n \${(M)subcommands:#$word:*} ]]; then
      at="\${at:+$at }$word"
      _cloudlet_table "$at"
    elif [[ -n $program ]]; then
      flags=() kinds=files program=''
      break
    fi
  done
  if [[ -z $kind && $cur == -*=* ]]; then
    for entry in $valued; do
      if [[ \${entry%% *} == \${cur%%=*} ]]; then kind=\${entry#* }; fi
    done
    compset -P '*='
  fi
  if [[ -z $kind && $cur == -* ]]; then
    _describe -o flag flags
    return
  fi
  if [[ -z $kind && $#subcommands -gt 0 ]]; then
    _describe command subcommands
    return
  fi
  case \${kind:-$kinds} in
    files) _files ;;
    directories) _files -/ ;;
    runs | images | oci-images)
      found=(\${(f)"$($words[1] completions --list \${kind:-$kinds} 2> /dev/null)"})
      compadd -- $found ;;
    words:*)
      entry=\${kind:-$kinds}
      found=(\${(s:,:)entry#words:})
      compadd -- $found ;;
  esac
}

if [[ $funcstack[1] == _cloudlet ]]; then
  _cloudlet "$@"
elif (( $+functions[compdef] )); then
  compdef _cloudlet cloudlet
fi
`;
}

function fish(commands: readonly CompletedCommand[]): string {
  const pair = (name: string, brief: string) => fishQuoted(`${name}\t${brief}`);
  const cases = commands.map((command) => {
    const { path, subcommands, flags, words, takesProgram } = command;
    const set = (name: string, list: readonly string[]) =>
      `            set -g __cloudlet_${name} ${list.join(" ")}`.trimEnd();
    return [
      `        case ${fishQuoted(path.join(" "))}`,
      set("subcommands", subcommands.map(({ name, brief }) => pair(name, brief))),
      set("flags", flags.flatMap(({ names, brief }) => names.map((name) => pair(name, brief)))),
      set("valued", valued(command).map(fishQuoted)),
      set("words", [fishQuoted(kindOf(words))]),
      set("program", takesProgram ? ["1"] : []),
    ].join("\n");
  });
  return `${HEAD("fish")}
function __cloudlet_table
    switch "$argv[1]"
${cases.join("\n")}
    end
end

function __cloudlet_complete
    set -l typed (commandline -opc)
    set -l cur (commandline -ct)
    set -l at
    set -l kind
    __cloudlet_table ''
    for word in $typed[2..]
        if set -q kind[1]
            set -e kind
            set -l kind
        else if string match -q -- '-*' $word
            if test "$word" = --
                set -g __cloudlet_flags
            end
            set kind (__cloudlet_kind $word)
        else if string match -q -- "$word"\\t'*' $__cloudlet_subcommands
            set -a at $word
            __cloudlet_table "$at"
        else if set -q __cloudlet_program[1]
            set -g __cloudlet_flags
            set -g __cloudlet_words files
            break
        end
    end
    set -l before
    if not set -q kind[1]; and string match -q -- '-*=*' $cur
        set -l parts (string split -m 1 = -- $cur)
        set kind (__cloudlet_kind $parts[1])
        set before "$parts[1]="
        set cur $parts[2]
    end
    if not set -q kind[1]
        if string match -q -- '-*' $cur
            printf '%s\\n' $__cloudlet_flags
            return
        end
        if set -q __cloudlet_subcommands[1]
            printf '%s\\n' $__cloudlet_subcommands
            return
        end
        set kind $__cloudlet_words
    end
    switch $kind
        case files
            printf "$before%s\\n" (__fish_complete_path $cur)
        case directories
            printf "$before%s\\n" (__fish_complete_directories $cur '')
        case runs images oci-images
            printf "$before%s\\n" ($typed[1] completions --list $kind 2>/dev/null)
        case 'words:*'
            printf "$before%s\\n" (string split , -- (string sub -s 7 -- $kind))
    end
end

function __cloudlet_kind
    for entry in $__cloudlet_valued
        set -l parts (string split -m 1 ' ' -- $entry)
        if test "$parts[1]" = "$argv[1]"
            printf '%s\\n' $parts[2]
        end
    end
end

complete -c cloudlet -f -a '(__cloudlet_complete)'
`;
}
