//! The command line of the agent. In the library, because whoever runs agents in process reads a container's `args` and
//! `env` with it too.

use std::time::Duration;

use crate::call;
use crate::protocol::{CONTROL_PORT, HTTP_PORT, Identity, Job, TCP_PORT};
use crate::relay::arguments::{self as relay_arguments, RelayOptions};
use crate::server::{DRAIN_TIME, LEDGER_CAPACITY, LogSink, ServerConfig};

/// What `--help` prints.
pub const HELP: &str = "\
meshproof-agent: traffic client and server, driven over a control port

Usage: meshproof-agent --cluster <name> --namespace <name> --workload <name> --pod <name> --nonce <text> [options]
       meshproof-agent relay --forward <port>=<host>:<port> [options]    (see meshproof-agent relay --help)
       meshproof-agent call <url> [options]                              (see meshproof-agent call --help)

Who the agent is (each can be given as an environment variable instead):
  --cluster <name>       cluster of the topology               [env: CLUSTER]
  --namespace <name>     namespace of the pod                  [env: NAMESPACE]
  --workload <name>      service or client of the scenario     [env: WORKLOAD]
  --pod <name>           name of the pod                       [env: POD]
  --nonce <text>         nonce of the run                      [env: NONCE]

Options:
  --http-ports <list>    ports for HTTP/1.1 and HTTP/2, separated by commas, or 'none'  [default: 8080]
  --tcp-ports <list>     ports for opaque TCP, separated by commas, or 'none'           [default: 9090]
  --control-port <port>  port of the control API                                        [default: 4180]
  --drain-ms <ms>        how long to wait for outstanding requests on SIGTERM           [default: 5000]
  --ledger-rows <n>      received requests to remember                                  [default: 131072]
  --log-requests         log a line for every request received
  -h, --help             print this and exit
  -V, --version          print the version and exit

SIGTERM or SIGINT stops the agent in order, a second one at once.
Exit codes: 0 stopped in order, 1 stopped at once, or a port cannot be listened on or is gone, 2 wrong arguments.

Example:
  meshproof-agent --cluster west --namespace shop --workload store --pod store-0 --nonce 7f3a --http-ports 8080,8081
";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Run an agent.
    Run(Options),
    /// Run a relay.
    Relay(RelayOptions),
    /// Send some requests.
    Call(Box<Job>),
    /// Print this help.
    Help(&'static str),
    /// Print the version.
    Version,
}

/// How to run the agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Who the agent is.
    pub identity: Identity,
    /// Ports for HTTP/1.1 and HTTP/2.
    pub http_ports: Vec<u16>,
    /// Ports for opaque TCP.
    pub tcp_ports: Vec<u16>,
    /// Port of the control API.
    pub control_port: u16,
    /// How long to wait for outstanding requests when stopping.
    pub drain: Duration,
    /// Rows that the ledger of received requests keeps.
    pub ledger_capacity: usize,
    /// Also log a line for every request received.
    pub log_requests: bool,
}

impl Options {
    /// The agent's configuration, with `log` to write to.
    #[must_use]
    pub fn into_config(self, log: LogSink) -> ServerConfig {
        ServerConfig {
            identity: self.identity,
            http_ports: self.http_ports,
            tcp_ports: self.tcp_ports,
            control_port: self.control_port,
            log,
            log_requests: self.log_requests,
            drain: self.drain,
            ledger_capacity: self.ledger_capacity,
        }
    }
}

/// Reads the arguments (without the program's name), with `environment` for what they leave out.
///
/// # Errors
/// A sentence that names the argument, what it holds and what was expected.
pub fn parse(
    arguments: impl IntoIterator<Item = String>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Command, String> {
    let [mut cluster, mut namespace, mut workload, mut pod, mut nonce] = [const { None }; 5];
    let mut http_ports = vec![HTTP_PORT];
    let mut tcp_ports = vec![TCP_PORT];
    let mut control_port = CONTROL_PORT;
    let mut drain = DRAIN_TIME;
    let mut ledger_capacity = LEDGER_CAPACITY;
    let mut log_requests = false;

    let mut arguments = arguments.into_iter().peekable();
    if arguments.next_if(|first| first == "relay").is_some() {
        let options = relay_arguments::parse(arguments)?;
        return Ok(options.map_or(Command::Help(relay_arguments::HELP), Command::Relay));
    }
    if arguments.next_if(|first| first == "call").is_some() {
        let job = call::parse(arguments)?;
        return Ok(job.map_or(Command::Help(call::HELP), |job| Command::Call(Box::new(job))));
    }
    while let Some(argument) = arguments.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        match (name.as_str(), &inline) {
            ("-h" | "--help", None) => return Ok(Command::Help(HELP)),
            ("-V" | "--version", None) => return Ok(Command::Version),
            ("--log-requests", None) => {
                log_requests = true;
                continue;
            }
            ("-h" | "--help" | "-V" | "--version" | "--log-requests", Some(_)) => {
                return Err(format!("{name} takes no value"));
            }
            _ => {}
        }
        // An unknown name is reported as such, and not as lacking a value.
        let mut value = || {
            inline
                .clone()
                .or_else(|| arguments.next())
                .ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--cluster" => cluster = Some(value()?),
            "--namespace" => namespace = Some(value()?),
            "--workload" => workload = Some(value()?),
            "--pod" => pod = Some(value()?),
            "--nonce" => nonce = Some(value()?),
            "--http-ports" => http_ports = ports(&name, &value()?)?,
            "--tcp-ports" => tcp_ports = ports(&name, &value()?)?,
            "--control-port" => control_port = port(&name, &value()?)?,
            "--drain-ms" => drain = Duration::from_millis(number(&name, &value()?)?),
            "--ledger-rows" => ledger_capacity = rows(&name, &value()?)?,
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }

    let identify = |given: Option<String>, flag: &str, variable: &str| {
        given
            .or_else(|| environment(variable))
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("{flag} is missing; give it, or set the environment variable {variable}"))
    };
    Ok(Command::Run(Options {
        identity: Identity {
            cluster: identify(cluster, "--cluster", "CLUSTER")?,
            namespace: identify(namespace, "--namespace", "NAMESPACE")?,
            workload: identify(workload, "--workload", "WORKLOAD")?,
            pod: identify(pod, "--pod", "POD")?,
            nonce: identify(nonce, "--nonce", "NONCE")?,
        },
        http_ports,
        tcp_ports,
        control_port,
        drain,
        ledger_capacity,
        log_requests,
    }))
}

fn ports(name: &str, list: &str) -> Result<Vec<u16>, String> {
    match list {
        "none" => Ok(Vec::new()),
        list => list.split(',').map(|text| port(name, text.trim())).collect(),
    }
}

pub(crate) fn port(name: &str, text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{name}: {text:?} is not a port; expected 1 to 65535")),
    }
}

pub(crate) fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{name}: {text:?} is not a whole number"))
}

fn rows(name: &str, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if rows > 0 => Ok(rows),
        _ => Err(format!("{name}: {text:?} is not a number of rows; expected 1 or more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn parse_line(line: &str, environment: &[(&str, &str)]) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned), |name| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    const IDENTITY: [(&str, &str); 5] = [
        ("CLUSTER", "west"),
        ("NAMESPACE", "shop"),
        ("WORKLOAD", "store"),
        ("POD", "store-0"),
        ("NONCE", "7f3a"),
    ];

    fn defaults() -> Options {
        Options {
            identity: Identity {
                cluster: "west".to_owned(),
                namespace: "shop".to_owned(),
                workload: "store".to_owned(),
                pod: "store-0".to_owned(),
                nonce: "7f3a".to_owned(),
            },
            http_ports: vec![8080],
            tcp_ports: vec![9090],
            control_port: 4180,
            drain: Duration::from_secs(5),
            ledger_capacity: 131_072,
            log_requests: false,
        }
    }

    #[test]
    fn flags_alone_and_environment_alone_say_the_same() {
        let flags = "--cluster west --namespace=shop --workload store --pod store-0 --nonce 7f3a";
        assert_eq!(parse_line(flags, &[]), Ok(Command::Run(defaults())));
        assert_eq!(parse_line("", &IDENTITY), Ok(Command::Run(defaults())));
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let Ok(Command::Run(options)) = parse_line("--cluster east", &IDENTITY) else {
            panic!()
        };
        assert_eq!(options.identity.cluster, "east");
    }

    #[test]
    fn the_help_tells_the_defaults() {
        let defaults = defaults();
        for default in [
            defaults.http_ports[0].to_string(),
            defaults.tcp_ports[0].to_string(),
            defaults.control_port.to_string(),
            defaults.drain.as_millis().to_string(),
            defaults.ledger_capacity.to_string(),
        ] {
            assert!(HELP.contains(&format!("[default: {default}]")), "{default}");
        }
    }

    #[rstest]
    #[case("--http-ports 80,81", Options { http_ports: vec![80, 81], ..defaults() })]
    #[case("--http-ports none --tcp-ports none", Options { http_ports: vec![], tcp_ports: vec![], ..defaults() })]
    #[case("--control-port=1 --drain-ms 0", Options { control_port: 1, drain: Duration::ZERO, ..defaults() })]
    #[case("--ledger-rows 10 --log-requests", Options { ledger_capacity: 10, log_requests: true, ..defaults() })]
    fn options_are_read(#[case] line: &str, #[case] expected: Options) {
        assert_eq!(parse_line(line, &IDENTITY), Ok(Command::Run(expected)));
    }

    #[rstest]
    #[case("--help --nonsense", Command::Help(HELP))]
    #[case("-h", Command::Help(HELP))]
    #[case("relay -h", Command::Help(relay_arguments::HELP))]
    #[case("--version", Command::Version)]
    fn help_and_version_need_nothing_else(#[case] line: &str, #[case] expected: Command) {
        assert_eq!(parse_line(line, &[]), Ok(expected));
    }

    #[rstest]
    #[case("--nonsense", "unknown argument \"--nonsense\"")]
    #[case("west", "unknown argument \"west\"")]
    #[case("--cluster", "--cluster needs a value")]
    #[case("--help=yes", "--help takes no value")]
    #[case("--http-ports 80,x", "--http-ports: \"x\" is not a port")]
    #[case("--http-ports 0", "--http-ports: \"0\" is not a port")]
    #[case("--control-port 65536", "--control-port: \"65536\" is not a port")]
    #[case("--drain-ms soon", "--drain-ms: \"soon\" is not a whole number")]
    #[case("--ledger-rows 0", "--ledger-rows: \"0\"")]
    fn wrong_arguments_are_named(#[case] line: &str, #[case] message: &str) {
        let problem = parse_line(line, &IDENTITY).unwrap_err();
        assert!(problem.contains(message), "{problem}");
    }

    #[rstest]
    #[case("CLUSTER")]
    #[case("NAMESPACE")]
    #[case("WORKLOAD")]
    #[case("POD")]
    #[case("NONCE")]
    fn each_part_of_the_identity_is_needed(#[case] missing: &str) {
        let environment: Vec<_> = IDENTITY.into_iter().filter(|(name, _)| *name != missing).collect();
        let problem = parse_line("", &environment).unwrap_err();
        assert!(problem.contains(missing), "{problem}");
    }
}
