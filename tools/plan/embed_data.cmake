# Turns the files of the library of machines, models and published results into one C++ source.
#   cmake -DROOT=tools/data -DOUTPUT=file.cpp -P embed_data.cmake
set(rows "")
foreach(folder machines models published)
  file(GLOB files "${ROOT}/${folder}/*.json")
  list(SORT files)
  foreach(path IN LISTS files)
    get_filename_component(name "${path}" NAME_WLE)
    file(READ "${path}" text)
    string(APPEND rows "    {\"${folder}\", \"${name}\", R\"json(${text})json\"},\n")
  endforeach()
endforeach()
file(WRITE "${OUTPUT}" "#include \"tools/plan/embedded_data.h\"\n
namespace tandem::plan {
namespace {
constexpr EmbeddedFile kFiles[] = {
${rows}};
}  // namespace

std::span<const EmbeddedFile> embedded_data() noexcept { return kFiles; }

}  // namespace tandem::plan
")
