//! What a cluster is installed from: the image, the kustomizations and the Helm chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use headrace_lab::daemon::{self, Daemon};
use serde_json::Value;

/// build.sh's exit status when Go is not installed.
const NO_GO: i32 = 3;
/// What the image may have at most, in bytes.
const LARGEST: u64 = 40 << 20;
/// What the image is asked to run: a program of each kind, for its version.
const PROGRAMS: [&str; 6] =
    ["headrace-dataplane", "headrace-agent", "headracectl", "headrace-cni", "nft", "ip"];

#[test]
fn the_same_programs_make_the_same_image_and_they_run_in_it() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let images = ["one.tar", "two.tar"].map(|name| directory.path().join(name));
    let digests = [pack(&images[0])?, pack(&images[1])?];
    ensure!(digests[0] == digests[1], "two images of the same files differ: {digests:?}");
    let size = std::fs::metadata(&images[0])?.len();
    ensure!(size < LARGEST, "the image has {size} bytes");
    if rustix::process::geteuid().is_root() {
        runs(&images[0], directory.path())?;
    } else {
        eprintln!("SKIPPED: running the image's programs needs root, for chroot");
    }
    Ok(())
}

#[test]
fn chart_and_kustomizations_stand_for_the_same_objects() -> Result<()> {
    let Some(render) = render()? else { return Ok(()) };
    let same = [("deploy", ""), ("deploy/kustomize/flannel", "nodeSelector: {headrace.dev/node: 'true'}")];
    for (kustomization, values) in same {
        let (ours, theirs) = (render.kustomize(kustomization)?, render.helm(values)?);
        ensure!(ours.as_array().is_some_and(|objects| objects.len() == 5), "{kustomization}: {ours:#}");
        ensure!(ours == theirs, "{kustomization}: {ours:#}\nthe chart: {theirs:#}");
    }
    let own = render.helm("config: {HEADRACE_API_SERVER: 'https://10.0.0.1:6443', HEADRACE_VNI: '7'}")?;
    let maps: Vec<_> = own.as_array().into_iter().flatten().filter(|o| o["kind"] == "ConfigMap").collect();
    ensure!(maps.len() == 1 && maps[0]["data"]["HEADRACE_VNI"] == "7", "{own:#}");
    Ok(())
}

#[test]
fn wrong_values_of_the_chart_are_told_by_their_name() -> Result<()> {
    let Some(render) = render()? else { return Ok(()) };
    for (values, named) in [
        ("confg: {}", "confg"),
        ("config: {HEADRACE_API_SERVER: '10.0.0.1'}", "/config/HEADRACE_API_SERVER"),
        ("config: {api-server: 'https://10.0.0.1:6443'}", "api-server"),
        ("config: {HEADRACE_VNI: 7}", "/config/HEADRACE_VNI"),
        ("image: {repository: ''}", "/image/repository"),
        ("image: {pullPolicy: Sometimes}", "/image/pullPolicy"),
        ("tolerations: Exists", "/tolerations"),
        ("agent: {resource: {}}", "/agent"),
    ] {
        let error = match render.helm(values) {
            Ok(objects) => bail!("{values} was taken: {objects}"),
            Err(error) => error.to_string(),
        };
        ensure!(error.contains(named), "{values}: {error}");
    }
    Ok(())
}

/// Packs the programs of this build; the image's digest. The plugin's linking is the Makefile's affair.
fn pack(archive: &Path) -> Result<String> {
    let plugin = daemon::binary("headrace-cni")?;
    let programs = daemon::binary(Daemon::Agent.binary())?;
    let programs = programs.parent().context("no directory")?;
    let script = repository().join("deploy/image/build.sh");
    let output = Command::new(script).args([programs, &plugin, archive]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout)?;
    Ok(told.rsplit_once("sha256:").context("no digest is told")?.1.trim().to_owned())
}

/// Every program starts with nothing but what the image has.
fn runs(archive: &Path, directory: &Path) -> Result<()> {
    let (layout, root) = (directory.join("layout"), directory.join("root"));
    unpack(archive, &layout)?;
    let read = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let blob = |digest: &Value| -> Result<PathBuf> {
        let digest = digest.as_str().context("no digest")?;
        Ok(layout.join("blobs").join(digest.replace(':', "/")))
    };
    let manifest = read(blob(&read(layout.join("index.json"))?["manifests"][0]["digest"])?)?;
    unpack(&blob(&manifest["layers"][0]["digest"])?, &root)?;
    for program in PROGRAMS {
        let version = if program == "ip" { "-V" } else { "--version" };
        let output = Command::new("chroot")
            .arg(&root)
            .args([program, version])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .output()?;
        let text = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned()).concat();
        ensure!(output.status.success(), "{program} does not run in the image: {text}");
    }
    Ok(())
}

fn unpack(archive: &Path, directory: &Path) -> Result<()> {
    std::fs::create_dir(directory)?;
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(directory).status()?;
    ensure!(status.success(), "tar -xf {}: {status}", archive.display());
    Ok(())
}

/// The program that renders.
struct Render(String);

/// Builds it. `None`, said loudly, without Go; an error then when CI=true.
fn render() -> Result<Option<Render>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/build.sh");
    let built = Command::new(&script).arg("render").stderr(Stdio::inherit()).output()?;
    if built.status.code() == Some(NO_GO) && std::env::var("CI").as_deref() != Ok("true") {
        eprintln!("SKIPPED: chart and kustomizations are not compared, because Go is missing");
        return Ok(None);
    }
    ensure!(built.status.success(), "{} render: {}", script.display(), built.status);
    Ok(Some(Render(String::from_utf8(built.stdout)?.trim().to_owned())))
}

impl Render {
    fn kustomize(&self, directory: &str) -> Result<Value> {
        self.run(&["kustomize", &repository().join(directory).display().to_string()])
    }

    fn helm(&self, values: &str) -> Result<Value> {
        self.run(&["helm", &repository().join("deploy/helm/headrace").display().to_string(), values])
    }

    fn run(&self, args: &[&str]) -> Result<Value> {
        let output = Command::new(&self.0).args(args).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
