//! Who wrote a file of texts, and what was asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Generation, TextArm};
use crate::artifact::manifest::{CorpusFacts, FileFacts, SiteFacts, Timings};
use crate::config::ModelConfig;
use crate::corpus::block::Counts;
use crate::error::Result;
use crate::generate::prompts::file_and_key;
use crate::id::Site;
use crate::run::provenance::model_facts;
use crate::run::record::{Record, input};

impl Generation {
    /// The manifest of a file with the texts of these arms. Its identity hashes everything that may
    /// change a text.
    pub(super) fn record(&self, arms: &[TextArm], judged: bool) -> Result<Record> {
        let (config, files) = (&self.config, self.model.hashes()?);
        let prompts: Vec<&str> = self.prompts.iter().map(|prompt| prompt.text.as_str()).collect();
        let facts = json!([
            env!("CARGO_PKG_VERSION"),
            files,
            self.tokenizer_hash(),
            self.device_kind(),
            format!("{:?} {:?} {:?}", config.dtype, config.sampling, config.stop),
            [config.samples, config.max_tokens],
            [config.add_bos, config.ignore_end, judged],
            prompts,
            format!("{arms:?}"),
        ]);
        let of_model = ModelConfig { path: config.model.clone(), dtype: config.dtype };
        let edited: BTreeSet<Site> =
            arms.iter().flat_map(|arm| arm.edits.keys().copied()).collect();
        let site = |site: &Site| SiteFacts {
            site: site.to_string(),
            neurons: self.model.spec.site_width(*site) as u64,
        };
        let sites: Vec<SiteFacts> = edited.iter().map(site).collect();
        let neurons = sites.iter().map(|site| site.neurons).sum();
        let counts = Counts { documents: prompts.len() as u64, ..Counts::default() };
        Ok(Record {
            run_id: *blake3::hash(facts.to_string().as_bytes()).as_bytes(),
            config: self.asked(arms, judged),
            model: model_facts((&self.model, &files), &of_model, neurons)?,
            corpus: CorpusFacts { files: self.files_of_prompts()?, counts },
            sites,
            pieces: self.pieces_of(arms.len()),
            devices: self.device_facts(),
            timings: Timings::default(),
            notes: Vec::new(),
        })
    }

    fn asked(&self, arms: &[TextArm], judged: bool) -> Value {
        let config = &self.config;
        let arm = |arm: &TextArm| {
            let on = format!("{:?}", arm.on).to_lowercase();
            json!({"name": arm.name, "on": on, "edits": format!("{:?}", arm.edits)})
        };
        json!({
            "model": {"path": config.model, "dtype": config.dtype},
            "prompts": config.prompts,
            "files": config.files,
            "add_bos": config.add_bos,
            "samples": config.samples,
            "max_tokens": config.max_tokens,
            "sampling": format!("{:?}", config.sampling),
            "ignore_end": config.ignore_end,
            "stop": config.stop,
            "judged": judged,
            "arms": arms.iter().map(arm).collect::<Vec<_>>(),
        })
    }

    /// Files of prompts; a key after `:` is no part of the name.
    fn files_of_prompts(&self) -> Result<Vec<FileFacts>> {
        let path = |name: &String| input(&file_and_key(name).0);
        self.config.files.iter().map(path).collect()
    }
}
