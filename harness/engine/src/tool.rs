//! Running external tools (`kind`, `linkerd`, `docker` …): one description of a command serves for printing it in a plan,
//! for running it under a deadline and for naming it when it fails.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::problem::{self, Problem};
use crate::redaction;

/// Most bytes of a tool's complaint that a problem quotes, from its end.
const QUOTED: usize = 2000;
/// Most bytes of a tool's output that are kept; what is read of it is complete or refused.
const LARGEST_OUTPUT: usize = 64 * 1024 * 1024;
/// Most bytes of a tool's complaints that are kept.
const LARGEST_COMPLAINT: usize = 1024 * 1024;
/// How long what a tool started may keep its pipes open after it has ended (wall time).
const PIPES_TIME: Duration = Duration::from_secs(2);
/// How long a tool and what it started have to end by themselves when they are asked to (wall time): `kind` removes a cluster
/// that is half made.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks at whether they have (wall time).
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A command: what would be run, or was.
#[derive(Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Name of the tool, e.g. `kind`.
    pub tool: String,
    /// Arguments. Other users of the machine can see them while the command runs; where it is shown or written, what looks
    /// like a secret and what was set by `--set` is left out.
    pub arguments: Vec<String>,
    /// What goes to its standard input. May be a secret; it is never printed.
    pub input: Option<String>,
    /// What the input is, for people, e.g. `manifests of west`.
    pub input_name: String,
    /// Environment variables that it gets beside the harness' own. Never a secret.
    pub variables: BTreeMap<String, String>,
    /// Wall time after which it is ended with everything that it started.
    pub deadline: Duration,
}

impl Invocation {
    /// A command without input.
    pub fn new<A: Into<String>>(tool: &str, arguments: impl IntoIterator<Item = A>, deadline: Duration) -> Self {
        Self {
            tool: tool.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            input: None,
            input_name: String::new(),
            variables: BTreeMap::new(),
            deadline,
        }
    }

    /// The same command with this environment variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same command with this on its standard input.
    #[must_use]
    pub fn with_input(mut self, name: &str, input: String) -> Self {
        self.input = Some(input);
        name.clone_into(&mut self.input_name);
        self
    }
}

impl fmt::Debug for Invocation {
    /// Without its input, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invocation(`{self}`)")
    }
}

impl fmt::Display for Invocation {
    /// As it would be typed in a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.variables {
            match shlex::try_quote(value) {
                Ok(quoted) => write!(f, "{name}={quoted} ")?,
                Err(_) => write!(f, "{name}={value:?} ")?,
            }
        }
        f.write_str(&self.tool)?;
        for argument in &redaction::arguments(&self.arguments) {
            match shlex::try_quote(argument) {
                Ok(quoted) => write!(f, " {quoted}")?,
                Err(_) => write!(f, " {argument:?}")?,
            }
        }
        if self.input.is_some() {
            write!(f, " <<< {}", self.input_name)?;
        }
        Ok(())
    }
}

/// What a tool answered.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error. Never mixed into the output: tools warn there while their output is JSON.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// A command that was run, for evidence.
#[derive(Clone, Debug)]
pub struct Ran {
    /// As it would be typed.
    pub line: String,
    /// How it ended: `exit 0`, `deadline`, `not started`.
    pub end: String,
    /// Wall time that it took.
    pub took: Duration,
}

/// Where tools are, and what was run with them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    paths: Arc<BTreeMap<String, PathBuf>>,
    longest: Option<Duration>,
    ran: Arc<Mutex<Vec<Ran>>>,
}

impl Tools {
    /// Tools at these paths; all others are looked for on the `PATH`.
    #[must_use]
    pub fn at(paths: BTreeMap<String, PathBuf>) -> Self {
        Self {
            paths: Arc::new(paths),
            longest: None,
            ran: Arc::default(),
        }
    }

    /// The same tools, with one of them at this path; what is run is kept in one list with theirs.
    #[must_use]
    pub fn with(&self, tool: &str, path: PathBuf) -> Self {
        let mut paths = BTreeMap::clone(&self.paths);
        paths.insert(tool.to_owned(), path);
        Self {
            paths: Arc::new(paths),
            ..self.clone()
        }
    }

    /// The same tools, none of which may take longer than this, whatever its deadline is otherwise (wall time).
    #[must_use]
    pub fn with_longest(mut self, longest: Option<Duration>) -> Self {
        self.longest = longest;
        self
    }

    /// The path that was given for a tool.
    #[must_use]
    pub fn path(&self, tool: &str) -> Option<&std::path::Path> {
        self.paths.get(tool).map(PathBuf::as_path)
    }

    /// Everything that was run, in the order in which it ended.
    #[must_use]
    pub fn ran(&self) -> Vec<Ran> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a command and returns its output when it exits with 0.
    ///
    /// # Errors
    /// Of class environment: `tool-missing`, `tool-failed` (any other exit), `tool-deadline`; the message has the command,
    /// its exit and what it complained about.
    pub async fn run(&self, invocation: &Invocation) -> Result<Output, Problem> {
        let output = self.try_run(invocation).await?;
        if output.success() {
            Ok(output)
        } else {
            Err(failed(invocation, &output))
        }
    }

    /// Runs a command and returns its output, however it exits.
    ///
    /// # Errors
    /// Of class environment: `tool-missing`, `tool-deadline`.
    pub async fn try_run(&self, invocation: &Invocation) -> Result<Output, Problem> {
        let began = Instant::now();
        let ended = self.spawn_and_wait(invocation).await;
        let end = match &ended {
            Ok(output) => end(output),
            Err(problem) if problem.code == "tool-deadline" => "deadline".to_owned(),
            Err(_) => "not started".to_owned(),
        };
        tracing::debug!(command = %invocation, %end, "ran");
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).push(Ran {
            line: invocation.to_string(),
            end,
            took: began.elapsed(),
        });
        ended
    }

    /// Starts a command that waits for the end of its input, which is held open until what this returns is dropped, or this
    /// process ends, however it does. It prints a line `ready` when it waits, and is then left to itself.
    ///
    /// # Errors
    /// Of class environment: `tool-missing`, `tool-failed` when it does not print that within its deadline.
    pub async fn hold_open(&self, invocation: &Invocation, ready: &str) -> Result<HeldOpen, Problem> {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let program = self.paths.get(&invocation.tool).cloned();
        let program = program.unwrap_or_else(|| PathBuf::from(&invocation.tool));
        let mut child = Command::new(&program)
            .args(&invocation.arguments)
            .envs(&invocation.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A terminal's interrupt must not end it before its time.
            .process_group(0)
            .spawn()
            .map_err(|error| missing(invocation, &program, &error))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut line = String::new();
        if let Some(stdout) = stdout {
            use tokio::io::AsyncReadExt;
            // The line is a word; whatever else is printed is not read.
            let mut reader = BufReader::new(stdout.take(256));
            let read = tokio::time::timeout(invocation.deadline, reader.read_line(&mut line));
            // What could not be read is not what was to be read.
            let _ = read.await;
        }
        if line.trim() == ready {
            return Ok(HeldOpen { stdin, child });
        }
        Err(problem::environment(
            "tool-failed",
            format!("`{invocation}` did not say `{ready}`"),
            Some("run the command by hand, or see its documentation"),
        ))
    }

    async fn spawn_and_wait(&self, invocation: &Invocation) -> Result<Output, Problem> {
        let program = self
            .paths
            .get(&invocation.tool)
            .cloned()
            .unwrap_or_else(|| PathBuf::from(&invocation.tool));
        let stdin = if invocation.input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let child = Command::new(&program)
            .args(&invocation.arguments)
            .envs(&invocation.variables)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that a deadline ends what the tool started, and a terminal's interrupt reaches
            // the harness, which then cleans up, and not the tool half-way.
            .process_group(0)
            .spawn()
            .map_err(|error| missing(invocation, &program, &error))?;
        let mut group = Group::of(child);
        let input = invocation.input.clone();
        let stdin = group.child.as_mut().and_then(|child| child.stdin.take());
        let feeding = async move {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A tool that does not read its input tells so by its exit.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let (stdout, stderr) = group
            .child
            .as_mut()
            .map_or((None, None), |child| (child.stdout.take(), child.stderr.take()));
        let (said, complained) = (Kept::at_most(LARGEST_OUTPUT), Kept::at_most(LARGEST_COMPLAINT));
        let waiting = async {
            let pipes = async { tokio::join!(feeding, said.fill(stdout), complained.fill(stderr)) };
            let ended = group.ended();
            tokio::pin!(pipes, ended);
            let mut closed = false;
            let status = loop {
                tokio::select! {
                    status = &mut ended => break status,
                    _ = &mut pipes, if !closed => closed = true,
                }
            };
            if !closed {
                closed = tokio::time::timeout(PIPES_TIME, pipes).await.is_ok();
            }
            (status, closed)
        };
        let deadline = self
            .longest
            .map_or(invocation.deadline, |longest| longest.min(invocation.deadline));
        match tokio::time::timeout(deadline, waiting).await {
            Ok((Ok(status), closed)) => {
                if !closed {
                    // Whatever it started and left behind would hold its files and ports as well.
                    tracing::warn!(command = %invocation, "ended, and what it started went on; it is ended now");
                }
                if !said.complete() {
                    return Err(problem::environment(
                        "tool-output",
                        format!("`{invocation}` printed more than {LARGEST_OUTPUT} bytes"),
                        Some("run the command by hand to see what it prints"),
                    ));
                }
                Ok(Output {
                    code: status.code(),
                    stdout: said.text(),
                    stderr: complained.text(),
                })
            }
            Ok((Err(error), _)) => Err(missing(invocation, &program, &error)),
            Err(_) => Err(problem::environment(
                "tool-deadline",
                format!("`{invocation}` did not end within {} s", deadline.as_secs_f64()),
                Some("run the command by hand to see where it hangs"),
            )),
        }
    }
}

/// The input of a command that waits for its end: see [`Tools::hold_open`].
#[derive(Debug)]
pub struct HeldOpen {
    stdin: Option<tokio::process::ChildStdin>,
    child: Child,
}

impl HeldOpen {
    /// Ends the input, and waits until the command has done what it does then (10 s at most, wall time).
    pub async fn end(mut self) {
        drop(self.stdin.take());
        // What counts is what is seen afterwards, by whoever calls this.
        let _ = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
    }
}

/// A process with everything that it started: whatever of it still lives when this is dropped is asked to end, and ended when it
/// does not.
struct Group {
    child: Option<Child>,
    /// Of the group, which lives as long as anything in it does: also when the process itself has ended.
    id: Option<rustix::process::Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(rustix::process::Pid::from_raw),
            child: Some(child),
        }
    }

    async fn ended(&mut self) -> std::io::Result<std::process::ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait().await,
            None => Err(std::io::Error::other("it is not there")),
        }
    }
}

/// Whether anything of a group lives.
fn lives(group: rustix::process::Pid) -> bool {
    rustix::process::test_kill_process_group(group).is_ok()
}

/// Ends a group for good when dropped: with the runtime at the latest.
struct LastWord(rustix::process::Pid);

impl Drop for LastWord {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(group) = self.id.filter(|group| lives(*group)) else {
            return;
        };
        let last_word = LastWord(group);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        let child = self.child.take();
        runtime.spawn(async move {
            let _last_word = last_word;
            let gone = async {
                if let Some(mut child) = child {
                    // Without being waited for, an ended process is still one of its group.
                    let _ = child.wait().await;
                }
                while lives(group) {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            let _ = tokio::time::timeout(GRACE, gone).await;
        });
    }
}

/// What is kept of a pipe: its beginning.
struct Kept {
    most: usize,
    /// What was kept, and whether that is all.
    bytes: Mutex<(Vec<u8>, bool)>,
}

impl Kept {
    fn at_most(most: usize) -> Self {
        Self {
            most,
            bytes: Mutex::new((Vec::new(), true)),
        }
    }

    /// Reads to the end. What does not fit is read and let go of, so that whoever writes can go on.
    async fn fill(&self, pipe: Option<impl tokio::io::AsyncRead + Unpin>) {
        use tokio::io::AsyncReadExt;
        let Some(mut pipe) = pipe else { return };
        let mut chunk = vec![0; 16 * 1024];
        // What was read before an error is still worth showing.
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            let mut kept = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            let room = self.most - kept.0.len();
            kept.0.extend_from_slice(&chunk[..read.min(room)]);
            kept.1 &= read <= room;
        }
    }

    fn complete(&self) -> bool {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner).0).into_owned()
    }
}

fn end(output: &Output) -> String {
    output
        .code
        .map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit {code}"))
}

fn missing(invocation: &Invocation, program: &std::path::Path, error: &std::io::Error) -> Problem {
    problem::environment(
        "tool-missing",
        format!("`{invocation}` can't be started ({}): {error}", program.display()),
        Some(&format!(
            "install {}, or give its path; `meshproof doctor` tells what is needed",
            invocation.tool
        )),
    )
}

/// The problem that a tool's failure is. Its complaint is quoted from the end.
#[must_use]
pub fn failed(invocation: &Invocation, output: &Output) -> Problem {
    let said = match (output.stderr.trim(), output.stdout.trim()) {
        ("", "") => "it said nothing".to_owned(),
        ("", said) | (said, _) => format!("it said:\n{}", tail(said)),
    };
    problem::environment(
        "tool-failed",
        format!("`{invocation}`: {}; {said}", end(output)),
        Some("run the command by hand, or see its documentation"),
    )
}

/// The problem that unreadable output of a tool is.
#[must_use]
pub fn unreadable(invocation: &Invocation, output: &str, expected: &str) -> Problem {
    let shown = if output.trim().is_empty() {
        "nothing".to_owned()
    } else {
        // Control characters would do to the reader's terminal what the tool wanted to do.
        let shown = output.trim().chars().take(200);
        format!(
            "`{}`",
            shown.map(|c| if c.is_control() { '␀' } else { c }).collect::<String>()
        )
    };
    problem::environment(
        "tool-output",
        format!("`{invocation}` printed {shown} where {expected} was expected"),
        Some("check the tool's version with `meshproof doctor`"),
    )
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(QUOTED);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::{Invocation, Tools};

    const SOON: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Invocation {
        Invocation::new("sh", ["-c", script], SOON)
    }

    #[tokio::test]
    async fn output_and_complaints_are_kept_apart() {
        let output = Tools::default().run(&sh("echo out; echo err >&2")).await.unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    }

    #[tokio::test]
    async fn a_failure_names_command_exit_and_complaint() {
        let tools = Tools::default();
        let problem = tools.run(&sh("echo no such cluster >&2; exit 3")).await.unwrap_err();
        assert_eq!(problem.code, "tool-failed");
        assert!(problem.message.contains("exit 3"), "{}", problem.message);
        assert!(problem.message.contains("no such cluster"), "{}", problem.message);
        assert!(problem.message.contains("sh -c"), "{}", problem.message);
        assert_eq!(tools.ran()[0].end, "exit 3");
    }

    #[tokio::test]
    async fn a_missing_tool_is_told() {
        let problem = Tools::default()
            .run(&Invocation::new("no-such-tool", ["x"], SOON))
            .await
            .unwrap_err();
        assert_eq!(problem.code, "tool-missing");
        assert!(problem.remedy.unwrap().contains("no-such-tool"));
    }

    /// Runs a script that goes on beyond its deadline, until a deadline finds that it has made a file: on a busy machine the first
    /// ones may come before it has done anything.
    async fn outlives_its_deadline(script: &str, file: &Path) {
        let mut deadline = Duration::from_millis(100);
        while !file.exists() {
            let invocation = Invocation::new("sh", ["-c", script], deadline);
            let problem = Tools::default().run(&invocation).await.unwrap_err();
            assert_eq!(problem.code, "tool-deadline");
            deadline *= 2;
        }
    }

    /// Waits until the process whose number is in a file has ended. Where nobody waits for orphans it stays as a zombie.
    async fn until_ended(file: &Path) {
        let number: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let process = rustix::process::Pid::from_raw(number).unwrap();
        let stat = PathBuf::from(format!("/proc/{number}/stat"));
        let zombie = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        let ending = async {
            while rustix::process::test_kill_process(process).is_ok() && !zombie() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, ending).await.is_ok(), "it went on");
    }

    #[tokio::test]
    async fn a_deadline_ends_what_the_tool_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("grandchild");
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        outlives_its_deadline(&script, &file).await;
        until_ended(&file).await;
    }

    #[tokio::test]
    async fn a_tool_may_clean_up_when_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cleaned");
        let ready = folder.path().join("ready");
        let script = format!(
            "trap 'touch {}; exit 1' TERM; touch {}; sleep 600 & wait",
            file.display(),
            ready.display()
        );
        outlives_its_deadline(&script, &ready).await;
        tokio::time::timeout(SOON, async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn what_a_tool_leaves_behind_does_not_hold_its_answer_up_and_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("left");
        // It holds the pipes for far longer than the tool may take.
        let script = format!("echo done; sleep 600 & echo $! > {}; exit 0", file.display());
        let output = Tools::default().run(&sh(&script)).await.unwrap();
        assert_eq!(output.stdout, "done\n");
        until_ended(&file).await;
    }

    #[tokio::test]
    async fn output_without_end_is_refused_and_not_kept() {
        let problem = Tools::default()
            .run(&sh("head -c 70000000 /dev/zero"))
            .await
            .unwrap_err();
        assert_eq!(problem.code, "tool-output");
        let output = Tools::default()
            .run(&sh("head -c 3000000 /dev/zero >&2"))
            .await
            .unwrap();
        assert_eq!(output.stderr.len(), super::LARGEST_COMPLAINT);
    }

    #[tokio::test]
    async fn input_reaches_the_tool_and_is_not_printed() {
        let invocation =
            Invocation::new("cat", Vec::<String>::new(), SOON).with_input("manifests", "secret".to_owned());
        assert_eq!(Tools::default().run(&invocation).await.unwrap().stdout, "secret");
        assert_eq!(invocation.to_string(), "cat <<< manifests");
    }

    #[tokio::test]
    async fn variables_reach_the_tool_and_are_printed() {
        let invocation = sh("printf %s \"$SOME\"").with_variable("SOME", "a b");
        assert_eq!(Tools::default().run(&invocation).await.unwrap().stdout, "a b");
        assert!(invocation.to_string().starts_with("SOME='a b' sh -c "), "{invocation}");
    }

    #[test]
    fn commands_print_as_typed() {
        let invocation = Invocation::new("kind", ["create", "cluster", "--name", "a b"], SOON);
        assert_eq!(invocation.to_string(), "kind create cluster --name 'a b'");
    }
}
