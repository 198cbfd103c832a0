//! The codes of diagnostics, each with the explanation that `meshproof explain SPEC0xx` prints.

use std::fmt;

/// A kind of mistake. Its number never changes meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code {
    number: u16,
    title: &'static str,
    explanation: &'static str,
}

impl Code {
    /// What it is about, in a few words.
    pub fn title(self) -> &'static str {
        self.title
    }

    /// Why it is a mistake and what to do, for people who don't know the language yet.
    pub fn explanation(self) -> &'static str {
        self.explanation
    }

    /// All codes in the order of their numbers.
    pub fn all() -> &'static [Self] {
        ALL
    }

    /// The code written as `SPEC012`, in upper or lower case.
    pub fn find(text: &str) -> Option<Self> {
        ALL.iter()
            .copied()
            .find(|code| code.to_string().eq_ignore_ascii_case(text.trim()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SPEC{:03}", self.number)
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal, $explanation:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: Code = Code { number: $number, title: $title, explanation: $explanation };
        )*
        const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    UNREADABLE = 1, "file cannot be read",
        "The file does not exist, may not be read, or is not UTF-8 text. Check the path and the permissions, and save it as UTF-8.";
    SYNTAX = 2, "not valid YAML",
        "The file is not YAML. Usual causes: wrong indentation, a missing `:` or a missing space after it, a bracket or a quote that is not closed, text with `: ` or ` #` in it that needs quotes.";
    TOO_LARGE = 3, "file too large or too deep",
        "Files are bounded in size, depth and number of values, so that no file can exhaust the program. Split the file.";
    YAML_FEATURE = 4, "YAML feature that is not used here",
        "Anchors (`&x`), aliases (`*x`), merge keys (`<<`), tags (`!x`), tabs in the indentation and several documents in one file are refused: they hide what a file says. Write the value out, or use `vars`, `matrix` or a fragment.";
    DUPLICATE_KEY = 5, "key written twice",
        "A mapping names the same key twice; YAML readers would silently keep one of the values. Remove or rename one.";
    AMBIGUOUS_YAML = 6, "YAML that readers understand differently",
        "Two YAML readers that check each other do not agree about this file, or it holds a value that JSON cannot express (a key that is not text, an infinite number). Write the value in another way, usually in quotes.";

    UNKNOWN_FIELD = 10, "unknown field",
        "The field does not exist at this place. An unknown field is never ignored, because a misspelt check would silently check nothing. Fields of objects and patches that steps apply are those of their kind, where its schema is known.";
    MISSING_FIELD = 11, "missing field",
        "A field without a default is not there.";
    WRONG_TYPE = 12, "wrong type",
        "The value has another type than the field: text, a number, true or false, a list, or a mapping. Text that looks like a number needs quotes. In objects that are applied, the types are those of the kind's schema.";
    UNKNOWN_STEP = 13, "unknown step",
        "A step is a mapping with one key, its verb: `deploy`, `export`, `call`, `expect`, ... The verb does not exist.";
    BAD_VALUE = 14, "value in the wrong form",
        "The value is text of a certain form, e.g. a length of time with its unit (`10s`), a rate (`100/s`) or a target (`store@east`).";
    UNKNOWN_WORD = 15, "word that is not known here",
        "The field takes one of a few words.";
    NO_VALUE = 16, "key without a value",
        "A key is followed by nothing. YAML reads that as null, which would count as if the field were absent. Give the value or remove the key; an empty mapping is written `{}`.";
    OUT_OF_RANGE = 17, "number out of range",
        "The number is too small or too large for the field.";
    NOT_ONE_VERB = 18, "step without exactly one verb",
        "Each step is a mapping with exactly one key, its verb. Two verbs in one step usually miss a `- ` before the second.";
    UNTYPED = 19, "value that cannot be read",
        "The file has the right fields but a value was refused when it was read.";

    NAME_SYNTAX = 20, "name in the wrong form",
        "Names become Kubernetes object names: lower-case letters, digits and `-`, beginning with a letter and not ending with `-`, at most 40 characters. Names of requirements are written in capitals, e.g. `MC-FAIL-001`.";
    DUPLICATE_NAME = 21, "name given twice",
        "Two things of the same kind have the same name, so that a reference to it would be ambiguous.";
    SCHEMA_LINE = 22, "no schema named in the first line",
        "The first line of a file names its JSON Schema in a comment, so that editors complete fields and show mistakes while typing: `# yaml-language-server: $schema=../../reports/schemas/scenario.json`.";
    DUPLICATE_ID = 23, "id used in two files",
        "Scenario ids, requirement ids and names of profiles are unique in the whole suite: reports and filters refer to them.";
    NAME_OF_FILE = 24, "name differs from the file's",
        "A topology is named as its folder, a fragment and an area as their file, so that a reference leads to the file.";

    UNKNOWN_TOPOLOGY = 30, "unknown topology",
        "`topology` names a folder of `kind-configs/` that holds a `topology.yaml`.";
    UNKNOWN_CLUSTER = 31, "unknown cluster",
        "The cluster is not declared in the scenario's topology.";
    UNKNOWN_SERVICE = 32, "unknown service",
        "The service is not deployed by an earlier step, or not in this cluster.";
    UNKNOWN_CLIENT = 33, "unknown client",
        "The client is not deployed by an earlier step, or not in this cluster. Requests are sent by clients: `- deploy: {client: shopper, in: west}`.";
    UNKNOWN_REFERENCE = 34, "reference to nothing",
        "The name of a call, traffic, inventory, fault or check is not given by an earlier step. Steps run in order, so a reference looks back only.";
    AMBIGUOUS_CLIENT = 35, "client in several clusters",
        "The client is deployed in several clusters; `in` says which one sends.";
    NOT_LINKED = 36, "clusters that are not linked",
        "`x@c` is what the client's cluster sees of cluster `c`, which needs a link from the client's cluster (the consumer) to `c` (the exporter), in the topology or by an earlier `link` step.";
    NOT_DEPLOYED = 37, "service not deployed in that cluster",
        "The service exists, but no earlier step deploys it in this cluster.";
    NOT_STARTED = 38, "nothing to end",
        "The step ends something that no earlier step began: a route, an export, a fault, or traffic.";
    NOTHING_TO_UPGRADE = 39, "nothing to upgrade",
        "`upgrade` takes the mesh of a cluster from the version that was installed to the one that the run goes to. The mesh is there (from the beginning, or by an earlier `install`), and it is upgraded once.";

    UNKNOWN_REQUIREMENT = 40, "unknown requirement",
        "The requirement is in no file of `scenarios/catalogue/`.";
    NOT_IN_CHECKS = 41, "requirement not in `checks`",
        "Every requirement that an `expect` decides stands in the scenario's `checks`, so that a reader and the coverage see it at once.";
    NEVER_DECIDED = 42, "requirement never decided",
        "`checks` promises to decide a requirement, and no `expect` does.";
    NO_REQUIREMENT = 43, "check without a requirement",
        "Every `expect` names by `id` the requirement that it decides: a failure is reported as a broken requirement.";

    SUBJECT = 50, "not exactly one subject",
        "An `expect` looks at exactly one thing: `object`, `objects`, `call`, `traffic`, `split`, `mtls`, `link`, `access`, `rejected`, `unchanged` or `residue`.";
    NOT_FOR_SUBJECT = 51, "field that does not fit the subject",
        "Each subject of an `expect` has its own fields; this one would be ignored.";
    COMPARISON = 52, "not exactly one comparison",
        "A matcher compares in exactly one way: `equals`, `one_of`, `contains`, `excludes`, `exists`, `at_least`, `at_most`, `length` or `same_as`. Write a second matcher for a second comparison.";
    EXACTLY_ONE_OF = 53, "not exactly one of several fields",
        "Exactly one of some fields is needed, e.g. `service` or `client` in `deploy`.";
    ASSERTS_NOTHING = 54, "check that asserts nothing",
        "The `expect` names its subject but not what must hold of it: it could not fail.";
    CONTRADICTION = 55, "fields that exclude each other",
        "Two fields contradict each other, e.g. a call that is answered and refused.";
    NO_SUCH_PLACE = 56, "place that objects do not have",
        "The schema of the kind has no such field, in no version that could be meant, so nothing is ever found there. Kinds are those of Kubernetes and those with a CustomResourceDefinition in `scenarios/crds/`; if another kind of the same name is meant, `api` tells it apart. Keys are separated by dots; `[*]`, `[0]` and `[path=value]` stand behind a list and nowhere else.";
    COMPARISON_SHAPE = 57, "comparison that does not fit what is there",
        "A path with `[*]` or `[path=value]` yields a list, also of one value or none: `equals` and `one_of` compare it with lists, e.g. `equals: [\"True\"]`, `contains` and `excludes` with one of its values. Numbers are compared with numbers, text with text. A comparison that can never hold checks nothing, and as a negative can never fail.";
    NO_SUCH_RIGHT = 58, "verb or resource that RBAC does not know",
        "Everybody is denied what does not exist. Verbs are those of Kubernetes (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, ...), resources are plurals in lower case (`secrets`, `pods/log`) of the group that serves them. Custom resources are known by their CustomResourceDefinitions in `scenarios/crds/`.";

    NO_DEADLINE = 60, "wait without a deadline",
        "What is observed over time says how long: `within` (becomes true), with `then_for` (and stays so), or `never_for` (never becomes true). Nothing passes because it was looked at once at a lucky moment.";
    DEADLINE_RANGE = 61, "deadline out of range",
        "`within` is at most 15 minutes, `then_for`, `never_for` and timeouts at most 10 minutes, and none is zero: a longer wait hides that something hangs.";
    THEN_FOR_ALONE = 62, "`then_for` without `within`",
        "`then_for` begins when the check holds, and `within` says until when it must.";
    NEVER_AND_WITHIN = 63, "`never_for` with `within`",
        "`within` wants that something becomes true and `never_for` that it does not. Write two checks.";

    NO_CONTROL = 70, "negative without a control",
        "\"Nothing arrived\" is also true when nothing was sent. A negative (`refused`, `never_for`, `is: absent`, a `count` that none is enough for, `allowed: false`, `fails` without `status` or `header`) names in `control` an earlier check or call on the same path that passed. meshproof asks it again right after the negative: what it shows has to hold before and after. For `is: absent`, an earlier check that saw the same object present is enough.";
    OTHER_PATH = 71, "control on another path",
        "A control proves a negative only about the same subject on the same path: objects of the same kind, cluster and namespace (of the same name, where the negative is about what an object holds); the same user in the same cluster; the same link; calls from the same cluster to the same service, port and protocol. A way between clusters may also be proven by halves: one control shows the mirror or the living gateway, another one that the service answers in its own cluster.";
    CONTROL_NEGATIVE = 72, "control that is itself a negative",
        "A control shows that the way works; a check that something does not happen cannot show that.";
    STALE_CONTROL = 73, "control from before a step that disturbs",
        "A step between the control and the negative (a fault, a route, a scaling, an export, an applied object, ...) may have broken what the control showed, and then the negative passes for that reason. Look again after the step, by a check or a call with a name of its own, and name that one. Where the negative says what an object never holds, the object itself shows that it could be seen, and an earlier control is enough.";
    UNSEEN_PLACE = 74, "place that nobody has seen",
        "`exists: false`, `excludes`, `length: 0` and the like also hold at a place that is misspelt. The place is a field that the schema of the kind has, or it was seen: a check has a positive comparison at the same place of an object of this kind, or a step writes this key. In the same way labels by which a negative selects, and values that `excludes` names, are written by a step or looked for by another check.";
    NOTHING_OF_THIS_NAME = 75, "object that nothing makes",
        "A name that is misspelt is absent for ever. A negative about one object names what a step makes or deletes, the mirror of a deployed service, or what an earlier check saw present. A cluster that must never answer has the service; a namespace in which something is denied is known.";
    NOTHING_HAPPENED = 76, "looked for traces of nothing",
        "`unchanged` holds of itself when nothing happens after the inventory, and `residue` when nothing was undone. Between the inventory and `unchanged` stands a step that changes something; before `residue` its link is unlinked or the mesh uninstalled.";

    MESH_SPECIFIC = 80, "mesh's own kind in a neutral file",
        "A file that uses kinds of one mesh says so with `mesh: <name>`: it is skipped on other meshes.";

    FILE_REFERENCE = 90, "file that may not be used",
        "Files named by a scenario exist and lie below the scenario's folder: no absolute path, no `..`, no symbolic link that leads out. Files that are applied hold Kubernetes objects and have at most 512 KiB.";
    UNKNOWN_VARIABLE = 91, "unknown reference in `${...}`",
        "`${...}` refers to `vars.x`, `matrix.x`, in fragments `params.x`, or to what the mesh's driver knows: `namespace`, `mirror.<service>.<cluster>`, `mesh.<fact>`, `mesh.<fact>.<cluster>`, `identity.gateway.<cluster>`, `identity.workload.<name>.<cluster>`, `address.node.<cluster>`.";
    UNUSED_VARIABLE = 92, "variable that is never used",
        "A constant, a column of the matrix or a parameter is declared and never referred to. Usually a reference is misspelt.";
    MATRIX_ROWS = 93, "matrix rows with different columns",
        "Every row of `matrix` gives a value for the same columns.";
    FRAGMENT = 94, "fragment that cannot be used",
        "`use` names a file of `scenarios/fragments/`, gives a value for each of its parameters and no others, and fragments use no fragments.";

    CIDR = 100, "not a range of addresses",
        "A range of IPv4 addresses is written `10.1.0.0/16`: four numbers up to 255, `/`, a prefix from 8 to 28, and no bits set behind the prefix.";
    CIDR_OVERLAP = 101, "ranges of addresses overlap",
        "Pod and service ranges of all clusters of a topology are disjoint: otherwise an address would not tell which cluster is meant.";
    SELF_LINK = 102, "cluster linked to itself",
        "A link leads from a cluster that consumes to another one that exports.";
    DUPLICATE_LINK = 103, "link written twice",
        "There is at most one link in each direction between two clusters.";
    NO_CLUSTERS = 104, "topology without clusters",
        "A topology has at least one cluster; a mesh of several needs two.";
    NO_GATEWAY = 105, "link to a cluster without a gateway",
        "A link reaches the exporting cluster through its gateway, and this cluster has none.";

    NO_DEFECT = 110, "requirement without a defect",
        "Each requirement names at least one defect of the embedded mesh that must turn it red: a check that nothing can turn red proves nothing. Those under which no check is reached (`refused_by`) are among them.";
    EMPTY_TEXT = 111, "text that is empty",
        "The text is read by people in reports; it may not be empty.";
    EMPTY_LIST = 112, "list that is empty",
        "The list needs at least one entry.";

    SUSPICIOUS = 120, "probably not what was meant",
        "The file is valid, but this usually is a mistake.";
    UNOBSERVED = 121, "nobody looks at it",
        "A call, traffic or an inventory is made and no later step refers to it, so it decides nothing.";
}

#[cfg(test)]
mod tests {
    use super::{Code, UNKNOWN_CLUSTER};

    #[test]
    fn codes_are_ascending_and_explained() {
        let numbers: Vec<u16> = Code::all().iter().map(|code| code.number).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(numbers, sorted);
        for code in Code::all() {
            assert!(code.explanation().len() > 30, "{code}");
        }
    }

    #[test]
    fn a_code_is_found_by_its_text() {
        assert_eq!(Code::find("spec031"), Some(UNKNOWN_CLUSTER));
        assert_eq!(Code::find("SPEC999"), None);
    }
}
