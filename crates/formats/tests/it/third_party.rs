//! Somebody else's executables: the launchers inside the PyPI package `distlib`, built by Microsoft's
//! linker, with resources and an overlay. Not kept here; fetched once into target/third-party.

use crate::SHA256;
use crate::judge::{Key, Scene, succeeded};
use countersign_content::ContentType;
use countersign_formats::pe::PeFile;
use countersign_formats::{Existing, Options, artifact_digest_of};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The launchers, or nothing and a loud notice if they cannot be had.
fn launchers() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/third-party");
    let unpacked = folder.join("distlib");
    if !unpacked.join("t32.exe").exists()
        && let Err(reason) = fetch(&folder)
    {
        // Past the test harness's capture: a test that looked at nothing must say so.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** NOT TESTED on third-party executables: {reason}\n\
             *** Put the distlib wheel (pip download distlib --no-deps) into {}\n",
            folder.display()
        );
        return Vec::new();
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(unpacked)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "exe"))
        .collect();
    found.sort();
    found
}

fn fetch(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    let python = |script: &str| {
        let ran = Command::new("python3")
            .args(["-c", script])
            .current_dir(folder)
            .output()
            .map_err(|e| format!("python3: {e}"))?;
        if ran.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned())
        }
    };
    let unpack = "import glob,zipfile,os\n\
                  w=zipfile.ZipFile(sorted(glob.glob('distlib-*.whl'))[-1])\n\
                  os.makedirs('distlib',exist_ok=True)\n\
                  for n in w.namelist():\n\
                  \x20   if n.endswith('.exe'):\n\
                  \x20       p='distlib/'+os.path.basename(n)\n\
                  \x20       open(p+'.part','wb').write(w.read(n)); os.replace(p+'.part',p)\n";
    if python(unpack).is_ok() {
        return Ok(());
    }
    python(
        "import subprocess,sys\n\
         sys.exit(subprocess.call([sys.executable,'-m','pip','download','-q','--no-deps','--only-binary',':all:','-d','.','distlib']))",
    )?;
    python(unpack)
}

#[test]
fn each_is_signed_and_accepted() {
    let files = launchers();
    for (n, file) in files.iter().enumerate() {
        let key = if n.is_multiple_of(2) {
            Key::P256
        } else {
            Key::Rsa3072
        };
        let scene = Scene::new(key);
        let path = scene.write("launcher.exe", &std::fs::read(file).unwrap());
        let before = artifact_digest_of(&path, ContentType::Authenticode, SHA256).unwrap();

        // As it came: nobody may have signed it; a signature that is there may be replaced.
        let options = Options {
            existing: Existing::Replace,
            ..Options::default()
        };
        scene.sign(&path, &options).write().unwrap();
        scene.osslsigncode_accepts("launcher.exe", "");
        let signed = PeFile::open(&path).unwrap();
        assert_eq!(signed.verify_digest().unwrap(), vec![before.clone()]);

        let options = Options {
            existing: Existing::Append,
            ..Options::default()
        };
        scene.sign(&path, &options).write().unwrap();
        scene.osslsigncode_accepts("launcher.exe", "-index 1");

        // What osslsigncode hashes is what we hash.
        scene.write("plain.exe", &std::fs::read(file).unwrap());
        let args = "sign -certs other.pem -key other.key -h sha256 -in plain.exe -out theirs.exe";
        succeeded(args, &scene.run("osslsigncode", args));
        let theirs = PeFile::open(&scene.path("theirs.exe")).unwrap();
        assert_eq!(theirs.verify_digest().unwrap(), vec![before]);
    }
}
