/**
 * How dependencies are installed in a microVM: by the language's own tool.
 *
 * @module
 */
import type { InstallerName } from "./dependencies.ts";
import { DEPENDENCIES } from "./paths.ts";

/** Variable with an .npmrc that is heeded besides the project's. */
export const NPM_CONFIG = "HOST_NPMRC";
/** Variable with a config.toml of cargo's, likewise; building the program heeds it, too. */
export const CARGO_CONFIG = "HOST_CARGO_CONFIG";

/** See the module. */
export interface Installer {
  /** Debian packages that are needed besides those of the language's image; the program has none of them. */
  readonly packages: readonly string[];
  /** Variables. */
  readonly environment: Readonly<Record<string, string>>;
  /**
   * For /bin/sh, in a directory with the files; the arguments are those of {@linkcode Dependencies}. What it
   * leaves in {@linkcode DEPENDENCIES} is what programs get.
   */
  readonly script: string;
}

// The environment and pip in as few processes as can be; pip itself does not become part of it
// (pip's __pip-runner__.py runs it under another interpreter).
const PIP = `echo "+ pip install $*" >&2
exec python3 -c '
import importlib.util, os, sys, venv
pip = importlib.util.find_spec("pip")
if pip is None:
    sys.exit("cloudlet: the image has no pip, which installs what the project names")
venv.EnvBuilder(symlinks=True).create(sys.argv[1])
python = sys.argv[1] + "/bin/python3"
runner = pip.submodule_search_locations[0] + "/__pip-runner__.py"
os.execv(python, [python, runner, "install", *sys.argv[2:]])
' ${DEPENDENCIES}/python "$@"
`;

// Whatever npm installs is one directory. The project's own files are links' targets only.
const NPM = `command=$1
if [ -n "$${NPM_CONFIG}" ]; then
  printf '%s\\n' "$${NPM_CONFIG}" >/tmp/.npmrc-of-host
  export npm_config_userconfig=/tmp/.npmrc-of-host
fi
echo "+ npm $command" >&2
npm "$command"
rm -rf "$npm_config_cache"
[ -d node_modules ] || mkdir node_modules
mv node_modules ${DEPENDENCIES}/node_modules
if [ "$command" = install ] && [ -f package-lock.json ]; then
  mkdir ${DEPENDENCIES}/locks
  mv package-lock.json ${DEPENDENCIES}/locks
  echo "There was no lock: the next runs have the versions that npm chose, and so has whoever keeps" \\
    "the file package-lock.json, which --output package-lock.json writes" >&2
fi
`;

const CARGO = `if [ -n "$${CARGO_CONFIG}" ]; then
  mkdir -p "$CARGO_HOME"
  printf '%s\\n' "$${CARGO_CONFIG}" >"$CARGO_HOME/config.toml"
fi
echo "+ cargo fetch $*" >&2
cargo fetch "$@"
if [ $# = 0 ]; then
  mkdir ${DEPENDENCIES}/locks
  mv Cargo.lock ${DEPENDENCIES}/locks
  echo "There was no lock: the next runs have the versions that cargo chose, and so has whoever keeps" \\
    "the file Cargo.lock, which --output Cargo.lock writes" >&2
fi
`;

const DENO = `[ -z "$${NPM_CONFIG}" ] || printf '%s\\n' "$${NPM_CONFIG}" >"$HOME/.npmrc"
[ -s "$1" ] && deno install --entrypoint "$1" || deno install
[ ! -d node_modules ] || mv node_modules ${DEPENDENCIES}/node_modules
`;

/** All of them. */
export const INSTALLERS: Readonly<Record<InstallerName, Installer>> = {
  pip: {
    // Wheels come first, but there are packages without.
    packages: ["python3-pip", "python3-dev", "gcc", "libc6-dev"],
    environment: {
      PIP_PREFER_BINARY: "1",
      PIP_NO_INPUT: "1",
      PIP_NO_CACHE_DIR: "1",
      PIP_PROGRESS_BAR: "off",
      PIP_DISABLE_PIP_VERSION_CHECK: "1",
      PIP_ROOT_USER_ACTION: "ignore",
    },
    script: PIP,
  },
  npm: {
    packages: ["npm", "node-gyp", "libnode-dev", "g++", "make", "python3"],
    environment: {
      npm_config_cache: "/tmp/.npm",
      npm_config_nodedir: "/usr", // node-gyp would fetch the headers
      npm_config_audit: "false",
      npm_config_fund: "false",
      npm_config_update_notifier: "false",
      npm_config_loglevel: "http",
      npm_config_progress: "false",
    },
    script: NPM,
  },
  cargo: {
    packages: [],
    environment: { CARGO_HOME: `${DEPENDENCIES}/cargo`, CARGO_TERM_COLOR: "never" },
    script: CARGO,
  },
  deno: {
    packages: [],
    environment: { DENO_DIR: `${DEPENDENCIES}/deno`, NO_COLOR: "1" },
    script: DENO,
  },
};
