//! Command line of the service mirror.

use std::time::Duration;

use crate::duration;

/// What the program was started with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arguments {
    /// Namespace of Link, credentials and lease.
    pub(super) namespace: String,
    /// Name of the probe Service; empty without a gateway.
    pub(super) probe_service: String,
    /// Quick tries after a failure.
    pub(super) requeue_limit: u32,
    /// Scenario time between two repairs of Endpoints.
    pub(super) repair_period: Duration,
    /// Creates namespaces that are missing.
    pub(super) create_namespaces: bool,
    /// What to watch.
    pub(super) watched: Watched,
}

/// What a service mirror watches.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Watched {
    /// The target of this Link.
    Link(String),
    /// Its own cluster, for federated services.
    Local,
}

impl Arguments {
    /// Reads arguments in Go's style (`-flag=value`, `-flag`).
    ///
    /// # Errors
    /// Names the argument that is unknown, malformed or asks for what is not modelled.
    pub(super) fn parse(args: &[String]) -> Result<Self, String> {
        let mut arguments = Self {
            namespace: String::new(),
            probe_service: String::new(),
            requeue_limit: 3,
            repair_period: Duration::from_secs(60),
            create_namespaces: false,
            watched: Watched::Local,
        };
        let mut local = false;
        let mut link = None;
        let mut args = args.iter().map(String::as_str);
        match args.next() {
            Some("service-mirror") => {}
            other => {
                return Err(format!(
                    "expected the subcommand `service-mirror`, found {other:?}: nothing else of the controller image is modelled"
                ));
            }
        }
        for arg in args {
            let Some(flag) = arg.strip_prefix('-') else {
                link = Some(arg.to_owned());
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
            let switched = || match value {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(format!("-{name}: expected true or false, found {value:?}")),
            };
            match name {
                "namespace" => value.clone_into(&mut arguments.namespace),
                "probe-service" => value.clone_into(&mut arguments.probe_service),
                "event-requeue-limit" => {
                    arguments.requeue_limit = value
                        .parse()
                        .map_err(|_| format!("-{name}: expected a number, found {value:?}"))?;
                }
                "endpoint-refresh-period" => {
                    arguments.repair_period = duration::parse(value)
                        .filter(|period| !period.is_zero())
                        .ok_or_else(|| format!("-{name}: expected a duration, found {value:?}"))?;
                }
                "enable-namespace-creation" => arguments.create_namespaces = switched()?,
                "local-mirror" => local = switched()?,
                "enable-headless-services" | "enable-pprof" => {
                    if switched()? {
                        return Err(format!("-{name} is not modelled; leave it out"));
                    }
                }
                "log-level"
                | "log-format"
                | "federated-service-selector"
                | "excluded-labels"
                | "excluded-annotations" => {}
                _ => return Err(format!("flag provided but not defined: -{name}")),
            }
        }
        if arguments.namespace.is_empty() {
            return Err("-namespace is missing".to_owned());
        }
        arguments.watched = match (local, link) {
            (true, _) => Watched::Local,
            (false, Some(link)) => Watched::Link(link),
            (false, None) => return Err("the name of the Link is missing".to_owned()),
        };
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Watched};
    use crate::defect::Defects;
    use crate::install::{ControllerValues, MulticlusterValues, multicluster};
    use rstest::rstest;
    use std::time::Duration;

    fn parse(args: &[&str]) -> Result<Arguments, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Arguments::parse(&args)
    }

    #[test]
    fn what_the_chart_passes_is_understood() {
        let values = MulticlusterValues {
            controllers: vec![ControllerValues::new("east")],
            ..MulticlusterValues::default()
        };
        let args_of = |name: &str| -> Vec<String> {
            let objects = multicluster(&Defects::default(), &values);
            let deployment = objects
                .iter()
                .find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == name)
                .unwrap();
            serde_json::from_value(deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone()).unwrap()
        };
        let controller = Arguments::parse(&args_of("controller-east")).unwrap();
        assert_eq!(
            controller,
            Arguments {
                namespace: "linkerd-multicluster".into(),
                probe_service: "probe-east".into(),
                requeue_limit: 3,
                repair_period: Duration::from_secs(60),
                create_namespaces: false,
                watched: Watched::Link("east".into()),
            }
        );
        let local = Arguments::parse(&args_of("linkerd-local-service-mirror")).unwrap();
        assert_eq!(local.watched, Watched::Local);
    }

    #[rstest]
    #[case(&["destination"], "expected the subcommand")]
    #[case(&["service-mirror", "-namespace=a"], "the name of the Link is missing")]
    #[case(&["service-mirror", "east"], "-namespace is missing")]
    #[case(&["service-mirror", "-namespace=a", "-enable-headless-services", "east"], "not modelled")]
    #[case(&["service-mirror", "-namespace=a", "-nosuch", "east"], "flag provided but not defined: -nosuch")]
    #[case(&["service-mirror", "-namespace=a", "-endpoint-refresh-period=1", "east"], "expected a duration")]
    #[case(&["service-mirror", "-namespace=a", "-event-requeue-limit=x", "east"], "expected a number")]
    #[case(&["service-mirror", "-namespace=a", "-enable-namespace-creation=maybe", "east"], "expected true or false")]
    fn anything_else_is_refused_with_the_reason(#[case] args: &[&str], #[case] reason: &str) {
        let error = parse(args).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}
