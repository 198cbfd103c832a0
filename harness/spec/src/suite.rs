//! A whole suite: scenarios, and the catalogue, profiles, deviations, fragments and topologies that they refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalogue::{Catalogue, Deviation, Deviations, Profile, Profiles};
use crate::code;
use crate::crds;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, closest};
use crate::lint;
use crate::load::{self, ExpandedScenario, Library, Plain, load_plain, load_scenario};
use crate::scalar::{Name, RequirementId};
use crate::scenario::Step;
use crate::scenario_files::{DEVIATIONS, PROFILES, is_beside_scenarios, is_manifest, is_yaml};
use crate::source::{Source, Span};
use crate::topology::Topology;
use crate::yaml::Limits;

/// A suite without errors.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// Expanded scenarios in the order of their ids.
    pub scenarios: Vec<ExpandedScenario>,
    /// The files that scenarios were looked for in, also such as have mistakes.
    pub files: Vec<PathBuf>,
    /// Topologies by name.
    pub topologies: BTreeMap<Name, Topology>,
    /// Files of the catalogue.
    pub catalogue: Vec<Catalogue>,
    /// Profiles.
    pub profiles: Vec<Profile>,
    /// Known deviations.
    pub deviations: Vec<Deviation>,
    /// What is suspicious but prevents nothing.
    pub warnings: Diagnostics,
    /// SHA-256 (hex) over all files that were read.
    pub digest: String,
}

/// Which requirements are decided, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Ids of the scenarios that decide a requirement, for every requirement of the catalogue.
    pub decided_by: BTreeMap<RequirementId, Vec<String>>,
}

impl Coverage {
    /// Requirements that no scenario decides.
    pub fn undecided(&self) -> Vec<&RequirementId> {
        self.decided_by
            .iter()
            .filter(|(_, scenarios)| scenarios.is_empty())
            .map(|(id, _)| id)
            .collect()
    }
}

impl Suite {
    /// Reads `scenarios_dir` (catalogue, profiles, deviations, fragments, definitions of kinds and `<area>/*.yaml`) and the topologies of
    /// `topologies_dir` (`<name>/topology.yaml`).
    ///
    /// # Errors
    /// All that is wrong with any of the files.
    pub fn load(scenarios_dir: &Path, topologies_dir: &Path) -> Result<Self, Diagnostics> {
        into_result(Self::check(scenarios_dir, topologies_dir))
    }

    /// As [`Suite::load`], but takes the scenarios from `files` only. They may lie anywhere.
    ///
    /// # Errors
    /// All that is wrong with these files, or with what they refer to.
    pub fn load_files(files: &[PathBuf], scenarios_dir: &Path, topologies_dir: &Path) -> Result<Self, Diagnostics> {
        into_result(Self::check_files(files, scenarios_dir, topologies_dir))
    }

    /// As [`Suite::load`], with the scenarios of further `files`, each once. They may lie anywhere.
    ///
    /// # Errors
    /// All that is wrong with any of the files.
    pub fn load_with(files: &[PathBuf], scenarios_dir: &Path, topologies_dir: &Path) -> Result<Self, Diagnostics> {
        let mut reader = Reader::default();
        let mut all = reader.scenario_files(scenarios_dir);
        let known: BTreeSet<PathBuf> = all.iter().filter_map(|file| file.canonicalize().ok()).collect();
        let is_new = |file: &&PathBuf| !file.canonicalize().is_ok_and(|file| known.contains(&file));
        all.extend(files.iter().filter(is_new).cloned());
        into_result(reader.read_all(&all, scenarios_dir, topologies_dir))
    }

    /// As [`Suite::load`], but returns what is usable beside all that is wrong, for `lint`.
    pub fn check(scenarios_dir: &Path, topologies_dir: &Path) -> (Self, Diagnostics) {
        let mut reader = Reader::default();
        let files = reader.scenario_files(scenarios_dir);
        reader.read_all(&files, scenarios_dir, topologies_dir)
    }

    /// As [`Suite::load_files`], but returns what is usable beside all that is wrong, for `lint`.
    pub fn check_files(files: &[PathBuf], scenarios_dir: &Path, topologies_dir: &Path) -> (Self, Diagnostics) {
        Reader::default().read_all(files, scenarios_dir, topologies_dir)
    }

    /// Which requirements are decided by which scenarios.
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for requirement in self.catalogue.iter().flat_map(|catalogue| &catalogue.requirements) {
            coverage.decided_by.insert(requirement.id.clone(), Vec::new());
        }
        for scenario in &self.scenarios {
            let decided: BTreeSet<&RequirementId> = scenario
                .scenario
                .steps
                .iter()
                .filter_map(|step| match step {
                    Step::Expect(expect) => expect.id.as_ref(),
                    _ => None,
                })
                .collect();
            for id in decided {
                coverage
                    .decided_by
                    .entry(id.clone())
                    .or_default()
                    .push(scenario.id.clone());
            }
        }
        coverage
    }
}

fn into_result((suite, problems): (Suite, Diagnostics)) -> Result<Suite, Diagnostics> {
    if problems.has_errors() {
        Err(problems)
    } else {
        Ok(suite)
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<Diagnostic>,
    sources: Vec<Arc<Source>>,
}

impl Reader {
    fn read_all(mut self, files: &[PathBuf], scenarios_dir: &Path, topologies_dir: &Path) -> (Suite, Diagnostics) {
        let mut suite = Suite {
            files: files.to_vec(),
            ..Suite::default()
        };
        let mut library = Library::default();
        self.topologies(topologies_dir, &mut suite, &mut library);
        self.catalogue(scenarios_dir, &mut suite, &mut library);
        self.kinds(&scenarios_dir.join(crds::FOLDER), &mut library);
        self.fragments(&scenarios_dir.join("fragments"), &mut library);
        let mut ids: BTreeMap<String, Span> = BTreeMap::new();
        for file in files {
            if let Some(source) = self.read(file) {
                self.scenario(&source, &library, &mut ids, &mut suite);
            }
        }
        if files.is_empty() {
            self.problems.push(
                Diagnostic::without_place(
                    code::UNREADABLE,
                    format!("there is no scenario file in `{}`", scenarios_dir.display()),
                )
                .help("scenarios are files `<area>/<name>.yaml` in that folder"),
            );
        }
        suite.scenarios.sort_by(|a, b| a.id.cmp(&b.id));
        suite.digest = load::sha256(self.sources.iter().map(|source| source.text()));
        let problems = Diagnostics(self.problems).sorted();
        suite.warnings = Diagnostics(
            problems
                .0
                .iter()
                .filter(|problem| problem.severity == Severity::Warning)
                .cloned()
                .collect(),
        );
        (suite, problems)
    }

    fn unreadable(&mut self, path: &Path, why: &str) {
        self.problems.push(
            Diagnostic::without_place(code::UNREADABLE, format!("`{}` cannot be read: {why}", path.display()))
                .help("check the path and the permissions; files are UTF-8 text"),
        );
    }

    fn read(&mut self, path: &Path) -> Option<Arc<Source>> {
        self.read_within(path, Limits::default())
    }

    fn read_within(&mut self, path: &Path, limits: Limits) -> Option<Arc<Source>> {
        let length = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => {
                self.unreadable(path, "it is not a file");
                return None;
            }
            Err(error) => {
                self.unreadable(path, &error.to_string());
                return None;
            }
        };
        let limit = limits.bytes;
        if length > limit as u64 {
            self.problems.push(
                Diagnostic::without_place(
                    code::TOO_LARGE,
                    format!(
                        "`{}` has {length} bytes, more than the {limit} that are read",
                        path.display()
                    ),
                )
                .help("split the file"),
            );
            return None;
        }
        match fs::read_to_string(path) {
            Ok(text) => {
                let source = Source::new(path, text);
                self.sources.push(Arc::clone(&source));
                Some(source)
            }
            Err(error) => {
                self.unreadable(path, &error.to_string());
                None
            }
        }
    }

    /// Entries of a folder in the order of their names. Hidden ones are left out.
    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut entries = match fs::read_dir(folder) {
            Ok(entries) => entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect::<Vec<_>>(),
            Err(error) => {
                self.unreadable(folder, &error.to_string());
                Vec::new()
            }
        };
        entries.retain(|path| !name_of(path).starts_with('.'));
        entries.sort();
        entries
    }

    /// The `*.yaml` of a folder; a `*.yml` would be overlooked silently, so it is reported.
    fn yaml_files(&mut self, folder: &Path) -> Vec<PathBuf> {
        let entries = self.entries(folder);
        let mut files = Vec::new();
        for path in entries {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("yaml") => files.push(path),
                Some("yml") if is_manifest(&path) => {}
                Some("yml") => self.problems.push(
                    Diagnostic {
                        severity: Severity::Warning,
                        ..Diagnostic::without_place(
                            code::SUSPICIOUS,
                            format!(
                                "`{}` is not read, because its name does not end with `.yaml`",
                                path.display()
                            ),
                        )
                    }
                    .help("rename it"),
                ),
                _ => {}
            }
        }
        files
    }

    fn scenario_files(&mut self, scenarios_dir: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for area in self.entries(scenarios_dir) {
            if area.is_dir() && !is_beside_scenarios(&name_of(&area)) {
                let found = self.yaml_files(&area);
                files.extend(found.into_iter().filter(|file| !is_manifest(file)));
            }
        }
        files
    }

    fn topologies(&mut self, folder: &Path, suite: &mut Suite, library: &mut Library) {
        let mut known = BTreeMap::new();
        for entry in self.entries(folder) {
            let path = entry.join("topology.yaml");
            if !entry.is_dir() || !path.exists() {
                continue;
            }
            let name = name_of(&entry);
            let loaded: Option<Plain<Topology>> = self
                .read(&path)
                .and_then(|source| load_plain(&source, "topology", &mut self.problems));
            if let Some(plain) = &loaded {
                self.problems.extend(lint::topology(plain, &name));
                suite.topologies.insert(Name(name.clone()), plain.value.clone());
            }
            known.insert(name, loaded.map(|plain| plain.value));
        }
        library.topologies = Some(known);
    }

    fn catalogue(&mut self, scenarios_dir: &Path, suite: &mut Suite, library: &mut Library) {
        let mut requirements: BTreeMap<String, Span> = BTreeMap::new();
        let mut complete = true;
        let mut files = Vec::new();
        for path in self.yaml_files(&scenarios_dir.join("catalogue")) {
            let loaded: Option<Plain<Catalogue>> = self
                .read(&path)
                .and_then(|source| load_plain(&source, "catalogue", &mut self.problems));
            match loaded {
                Some(plain) => {
                    self.problems.extend(lint::catalogue(&plain, &mut requirements));
                    files.push(plain);
                }
                None => complete = false,
            }
        }
        // With a broken file, requirements would seem to be unknown that are not.
        let known = complete.then_some(&requirements);
        for plain in &files {
            self.problems
                .extend(known.into_iter().flat_map(|known| lint::neighbours(plain, known)));
        }
        suite.catalogue.extend(files.into_iter().map(|plain| plain.value));
        let path = scenarios_dir.join(PROFILES);
        let profiles: Option<Plain<Profiles>> = self
            .optional(&path)
            .and_then(|source| load_plain(&source, "profiles", &mut self.problems));
        if let Some(plain) = profiles {
            self.problems.extend(lint::profiles(&plain, known));
            suite.profiles = plain.value.profiles;
        }
        let path = scenarios_dir.join(DEVIATIONS);
        let deviations: Option<Plain<Deviations>> = self
            .optional(&path)
            .and_then(|source| load_plain(&source, "deviations", &mut self.problems));
        if let Some(plain) = deviations {
            self.problems.extend(lint::deviations(&plain, known));
            suite.deviations = plain.value.deviations;
        }
        library.requirements = complete.then_some(requirements);
    }

    /// A file that a suite may lack.
    fn optional(&mut self, path: &Path) -> Option<Arc<Source>> {
        if path.exists() { self.read(path) } else { None }
    }

    fn kinds(&mut self, folder: &Path, library: &mut Library) {
        if !folder.is_dir() {
            return;
        }
        let files = self.entries(folder).into_iter().filter(|path| is_yaml(path));
        for path in files.collect::<Vec<_>>() {
            if let Some(source) = self.read_within(&path, crds::LIMITS) {
                self.problems.extend(library.kinds.add(&source));
            }
        }
    }

    fn fragments(&mut self, folder: &Path, library: &mut Library) {
        if !folder.is_dir() {
            return;
        }
        for path in self.yaml_files(folder) {
            let stem = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            let fragment = self
                .read(&path)
                .and_then(|source| load::load_fragment(&source, &mut self.problems));
            library.fragments.insert(stem, fragment);
        }
    }

    fn scenario(
        &mut self,
        source: &Arc<Source>,
        library: &Library,
        ids: &mut BTreeMap<String, Span>,
        suite: &mut Suite,
    ) {
        let (scenarios, problems) = load_scenario(source, library);
        self.problems.extend(problems.0);
        let Some(first) = scenarios.first() else {
            return;
        };
        let id = &first.scenario.scenario.0;
        let place = Span::new(source, 0..source.text().len()).find(&format!("scenario: {id}"));
        let place = place.first_line().find(id);
        if let Some(other) = ids.get(id) {
            self.problems.push(
                Diagnostic::error(
                    code::DUPLICATE_ID,
                    format!("the scenario id `{id}` is used twice"),
                    place,
                )
                .also(other.clone(), "first here")
                .help("ids are unique in the whole suite; choose another"),
            );
            return;
        }
        ids.insert(id.clone(), place);
        suite.scenarios.extend(scenarios);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The requirement that was probably meant.
pub(crate) fn closest_requirement<'a>(written: &str, known: &'a BTreeMap<String, Span>) -> Option<&'a str> {
    closest(written, known.keys().map(String::as_str))
}
