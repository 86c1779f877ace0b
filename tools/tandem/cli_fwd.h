#pragma once

// What headers need of CLI11. Its own header takes longer to compile than most files here, in each file again, since it
// defines objects: only files that add options include it.
namespace CLI {
class App;
class ParseError;
}  // namespace CLI
