//! Being written.

use super::{Assessment, Context};
use crate::question::MtlsQuestion;

pub(crate) fn expectation(question: &MtlsQuestion) -> String {
    question.ledger.clone()
}

pub(crate) fn assess(_: &MtlsQuestion, _: &Context<'_>) -> Assessment {
    Assessment::open("not judged yet")
}
