//! A plan for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use super::{Plan, Use};

impl Plan {
    /// The plan for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "run": self.identity.run,
            "seed": self.identity.seed,
            "defects": self.identity.defects,
            "environment": self.surroundings.environment,
            "certifies": self.surroundings.certifies,
            "pace": self.surroundings.pace,
            "mesh": self.surroundings.mesh,
            "suite_digest": self.suite_digest,
            "partition": self.partition.map(|partition| partition.to_string()),
            "environments": self.environments.values().map(|environment| json!({
                "key": environment.key,
                "topology": environment.topology.topology,
                "clusters": environment.topology.clusters.keys().collect::<Vec<_>>(),
                "links": environment.topology.links,
                "setup": environment.setup,
                "own": environment.own,
            })).collect::<Vec<_>>(),
            "scenarios": self.scenarios.iter().map(|scenario| json!({
                "key": scenario.key,
                "id": scenario.scenario.id,
                "file": scenario.scenario.file,
                "summary": scenario.scenario.scenario.summary,
                "checks": scenario.scenario.scenario.checks,
                "environment": scenario.environment,
                "namespace": scenario.namespace,
                "locks": scenario.locks.iter().map(|(thing, used)| json!({"thing": thing.to_string(), "use": used})).collect::<Vec<_>>(),
                "skip": scenario.skip.as_ref().map(|skip| json!({"code": skip.code, "reason": skip.reason})),
                "cost_seconds": scenario.cost,
            })).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run: Vec<_> = self
            .scenarios
            .iter()
            .filter(|scenario| scenario.skip.is_none())
            .collect();
        writeln!(
            f,
            "{} scenario{} on {} ({}), {} skipped; pace {}, seed {}",
            run.len(),
            if run.len() == 1 { "" } else { "s" },
            self.surroundings.environment,
            self.surroundings.mesh,
            self.scenarios.len() - run.len(),
            self.surroundings.pace,
            self.identity.seed
        )?;
        if let Some(partition) = self.partition {
            writeln!(f, "partition {partition}")?;
        }
        if !self.identity.defects.is_empty() {
            writeln!(f, "defects: {}", self.identity.defects.join(", "))?;
        }
        for environment in self.environments.values() {
            let clusters: Vec<&str> = environment
                .topology
                .clusters
                .keys()
                .map(|name| name.0.as_str())
                .collect();
            let links: Vec<String> = environment
                .topology
                .links
                .iter()
                .map(|link| format!("{} → {}", link.from, link.to))
                .collect();
            writeln!(
                f,
                "\n{}: {}; links {}",
                environment.key,
                clusters.join(", "),
                links.join(", ")
            )?;
            for scenario in run.iter().filter(|scenario| scenario.environment == environment.key) {
                let checks: Vec<&str> = scenario
                    .scenario
                    .scenario
                    .checks
                    .iter()
                    .map(|check| check.0.as_str())
                    .collect();
                write!(f, "  {}  [{}]", scenario.key, checks.join(" "))?;
                write!(
                    f,
                    "  {}-{}s",
                    scenario.cost.least.as_secs(),
                    scenario.cost.most.as_secs()
                )?;
                let alone: Vec<String> = scenario
                    .locks
                    .iter()
                    .filter(|(_, used)| *used == Use::Exclusive)
                    .map(|(thing, _)| thing.to_string())
                    .collect();
                if !alone.is_empty() && !environment.own {
                    write!(f, "  alone on {}", alone.join(", "))?;
                }
                writeln!(f)?;
            }
        }
        let mut first = true;
        for scenario in &self.scenarios {
            if let Some(skip) = &scenario.skip {
                if std::mem::take(&mut first) {
                    writeln!(f, "\nskipped:")?;
                }
                writeln!(f, "  {}  {}: {}", scenario.key, skip.code, skip.reason)?;
            }
        }
        Ok(())
    }
}
