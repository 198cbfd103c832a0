//! The command line of `meshproof-agent relay`.

use std::time::Duration;

use super::protocol::{Forward, LIFETIME};
use crate::arguments::{number, port};
use crate::protocol::CONTROL_PORT;

/// What `relay --help` prints.
pub const HELP: &str = "\
meshproof-agent relay: carries TCP connections to their targets, and disturbs them when told so over a control port

Usage: meshproof-agent relay --forward <port>=<host>:<port> [--forward ...] [options]

Options:
  --forward <port>=<host>:<port>  listen on the first, carry to the second; an IPv6 address stands in brackets
  --control-port <port>           port of the control API                               [default: 4180]
  --lifetime-s <s>                heal everything when the harness is silent so long    [default: 30]
  -h, --help                      print this and exit

SIGTERM or SIGINT ends the relay and all its connections.
Exit codes: 0 ended by a signal, 1 a port cannot be listened on, 2 wrong arguments.

Example:
  meshproof-agent relay --forward 4143=172.18.0.3:4143 --forward 4191=172.18.0.3:4191
";

/// How to run a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    /// What it forwards; at least one.
    pub forwards: Vec<Forward>,
    /// Port of the control API.
    pub control_port: u16,
    /// How long faults live without being renewed.
    pub lifetime: Duration,
}

/// Reads the arguments after `relay`; `None` when help is asked for.
///
/// # Errors
/// A sentence that names the argument, what it holds and what was expected.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<RelayOptions>, String> {
    let mut options = RelayOptions {
        forwards: Vec::new(),
        control_port: CONTROL_PORT,
        lifetime: LIFETIME,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "-h" || argument == "--help" {
            return Ok(None);
        }
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| arguments.next())
                .ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--forward" => {
                let new = forward(&value()?)?;
                if options.forwards.iter().any(|known| known.port == new.port) {
                    return Err(format!("--forward: port {} is given twice", new.port));
                }
                options.forwards.push(new);
            }
            "--control-port" => options.control_port = port(&name, &value()?)?,
            "--lifetime-s" => {
                let text = value()?;
                options.lifetime = match number(&name, &text)? {
                    0 => return Err(format!("{name}: {text:?} is no time to live; expected 1 or more")),
                    seconds => Duration::from_secs(seconds),
                };
            }
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    if options.forwards.is_empty() {
        return Err("--forward is missing; a relay without it carries nothing".to_owned());
    }
    if let Some(taken) = options.forwards.iter().find(|f| f.port == options.control_port) {
        return Err(format!("--forward: port {} is the control port", taken.port));
    }
    Ok(Some(options))
}

fn forward(text: &str) -> Result<Forward, String> {
    let expected = || format!("--forward: {text:?} is not understood; expected <port>=<host>:<port>");
    let (from, to) = text.split_once('=').ok_or_else(expected)?;
    let (host, to_port) = to.rsplit_once(':').ok_or_else(expected)?;
    let bare = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(address)) => address,
        None if !host.contains(':') => host,
        _ => return Err(expected()),
    };
    if bare.is_empty() {
        return Err(expected());
    }
    Ok(Forward {
        port: port("--forward", from)?,
        host: bare.to_owned(),
        to_port: port("--forward", to_port)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(line: &str) -> Result<Option<RelayOptions>, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn forward_to(port: u16, host: &str, to_port: u16) -> Forward {
        Forward {
            port,
            host: host.to_owned(),
            to_port,
        }
    }

    #[test]
    fn options_are_read_and_have_defaults() {
        let options = read("--forward 4143=gateway:4144 --forward=4191=[fc00::2]:4191")
            .unwrap()
            .unwrap();
        let forwards = [forward_to(4143, "gateway", 4144), forward_to(4191, "fc00::2", 4191)];
        assert_eq!(options.forwards, forwards);
        assert_eq!((options.control_port, options.lifetime), (CONTROL_PORT, LIFETIME));
        let texts = options.forwards.iter().map(ToString::to_string);
        assert_eq!(texts.collect::<Vec<_>>(), ["4143=gateway:4144", "4191=[fc00::2]:4191"]);

        let options = read("--control-port 9 --lifetime-s=5 --forward 1=a:2")
            .unwrap()
            .unwrap();
        assert_eq!((options.control_port, options.lifetime), (9, Duration::from_secs(5)));
        assert_eq!(
            read("--forward x --help"),
            Err("--forward: \"x\" is not understood; expected <port>=<host>:<port>".to_owned())
        );
        assert_eq!(read("--help"), Ok(None));
    }

    #[test]
    fn the_help_tells_the_defaults() {
        for default in [u64::from(CONTROL_PORT), LIFETIME.as_secs()] {
            assert!(HELP.contains(&format!("[default: {default}]")), "{default}");
        }
    }

    #[rstest]
    #[case("", "--forward is missing")]
    #[case("--forward", "--forward needs a value")]
    #[case("--forward 4143", "expected <port>=<host>:<port>")]
    #[case("--forward 4143=host", "expected <port>=<host>:<port>")]
    #[case("--forward 4143=:1", "expected <port>=<host>:<port>")]
    #[case("--forward 4143=fc00::2:1", "expected <port>=<host>:<port>")]
    #[case("--forward 0=a:1", "\"0\" is not a port")]
    #[case("--forward 1=a:x", "\"x\" is not a port")]
    #[case("--forward 1=a:1 --forward 1=b:1", "port 1 is given twice")]
    #[case("--forward 4180=a:1", "port 4180 is the control port")]
    #[case("--forward 1=a:1 --lifetime-s 0", "\"0\" is no time to live")]
    #[case("--delay 1", "unknown argument \"--delay\"")]
    fn wrong_arguments_are_named(#[case] line: &str, #[case] message: &str) {
        let problem = read(line).unwrap_err();
        assert!(problem.contains(message), "{problem}");
    }
}
