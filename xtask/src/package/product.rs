//! What is packaged: `lb`, and `lb-kube` beside it. Where files are installed follows from a
//! product's name; what else differs between the two stands in the tables of this file.

pub(super) struct Product {
    /// Of the program, of its cargo package, and of the packages.
    pub name: &'static str,
    /// The file of its configuration, in its folder below /etc.
    pub configuration: &'static str,
    /// A file that the installed program keeps, if it keeps any: a purge removes it.
    pub kept: Option<&'static str>,
    /// What systemd reads besides the unit, and where.
    pub systemd: &'static [(&'static str, &'static str)],
    /// Words of the program before the name of a shell: the program prints completions.
    pub completions: &'static [&'static str],
    /// Words of the program before a folder: the program writes its manual pages there.
    pub manual: &'static [&'static str],
    /// Files and folders that stand among the documents as in the source, so that links between
    /// documents lead to the same files.
    pub same: &'static [&'static str],
    /// Links among the documents, and where they lead.
    pub links: &'static [(&'static str, &'static str)],
    /// Files that a manifest of Kubernetes holds: the manifest, the file's key there, and where
    /// the file stands among the documents.
    pub held: &'static [(&'static str, &'static str, &'static str)],
    /// What the image gives the program if nobody says otherwise.
    pub arguments: &'static [&'static str],
    /// What the installed program is asked, and a part of its answer.
    pub answers: &'static [(&'static [&'static str], &'static str)],
    /// Whether the role of deploy/ansible installs it.
    pub role: bool,
    /// Whether clients' packets go through it.
    pub serves: bool,
}

pub(super) const LB: Product = Product {
    name: "lb",
    configuration: "lb.yaml",
    kept: Some("var/lib/lb/orders.json"),
    systemd: &[
        ("deploy/systemd/sysusers.conf", "usr/lib/sysusers.d/lb.conf"),
        ("deploy/systemd/lb.catalog", "usr/lib/systemd/catalog/lb.catalog"),
    ],
    completions: &["completions"],
    manual: &["man", "--out"],
    same: &[
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "GLOSSARY.md",
        "docs",
        "deploy/ansible",
        "deploy/container",
        "deploy/examples",
        "deploy/grafana",
        "deploy/kubernetes",
        "deploy/prometheus",
        "deploy/routing",
        "deploy/schema",
        "deploy/systemd",
    ],
    // The place where everybody looks for examples, and the schema that examples name as
    // `../schema`.
    links: &[("examples", "deploy/examples"), ("schema", "deploy/schema")],
    held: &[],
    arguments: &["run", "--config", "/etc/lb/lb.yaml"],
    answers: &[(&["--version"], "lb "), (&["check", "/usr/share/doc/lb/examples/talk.yaml"], "ok")],
    role: true,
    serves: true,
};

/// Its documents are those of `lb`, which has docs/kubernetes.md.
pub(super) const LB_KUBE: Product = Product {
    name: "lb-kube",
    configuration: "config.yaml",
    kept: None,
    systemd: &[],
    completions: &["--completions"],
    manual: &["--man"],
    same: &["deploy/kubernetes"],
    links: &[("examples", "deploy/kubernetes")],
    held: &[("deploy/kubernetes/pools.yaml", "config.yaml", "deploy/kubernetes/config.yaml")],
    arguments: &[],
    answers: &[(&["--version"], "lb-kube ")],
    role: false,
    serves: false,
};

pub(super) const ALL: [&Product; 2] = [&LB, &LB_KUBE];

impl Product {
    /// live-build has a /usr/bin/lb, so programs are in sbin, where an administrator's command
    /// belongs.
    pub(super) fn program(&self) -> String {
        format!("usr/sbin/{}", self.name)
    }

    /// The program's path on a machine that has it.
    pub(super) fn command(&self) -> String {
        format!("/{}", self.program())
    }

    pub(super) fn unit(&self) -> String {
        format!("usr/lib/systemd/system/{}.service", self.name)
    }

    /// The folder of the configuration and of what it names.
    pub(super) fn settings(&self) -> String {
        format!("etc/{}", self.name)
    }

    pub(super) fn configuration(&self) -> String {
        format!("{}/{}", self.settings(), self.configuration)
    }

    pub(super) fn documents(&self) -> String {
        format!("usr/share/doc/{}", self.name)
    }
}
