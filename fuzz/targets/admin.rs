//! Requests on the admin socket, which are also what `calistoctl rules` sends.
#![no_main]

use calisto::admin::Request;
use calisto::config::rule::{RuleSpec, Selector};
use calisto_fuzz::text::assert_one_line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What is not UTF-8 is refused before it is looked at.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Request>() {
        // What is understood can be said again, in one line, and means the same.
        Ok(request) => {
            let said = request.to_string();
            assert_one_line(&said);
            assert_eq!(said.parse(), Ok(request));
        }
        Err(why) => assert_one_line(&why),
    }
    if let Ok(rule) = text.parse::<RuleSpec>() {
        assert_eq!(rule.to_string().parse(), Ok(rule));
        assert_eq!(rule.rule().hash, rule.selector.hash());
        // A flow's hash is the one that its packets get.
        if let Some(flow) = rule.selector.flow() {
            let again: Selector = format!("flow={flow}").parse().expect("as displayed");
            assert_eq!(again.hash(), rule.selector.hash());
        }
    }
});
